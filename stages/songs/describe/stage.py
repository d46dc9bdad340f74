"""`mixstyle describe`: the descriptors of songs, for people: a table, a figure, and percentiles among cached songs.

A song is read as the cached ones were (`mixstyle.stages.songs.clips`), and its values follow from its clips by the same
rule (`song_descriptors`): so its percentile is among songs like with like. Its loudness is that of all of the song.
"""

import csv
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.music.stems_among_music import is_stem_folder
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.writable import check_file, check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.core.text import as_utf8
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.commands import ANY_FOLDER, completed
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.outputs import raise_for, write_or_keep
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.common.songs_left_out import LeftOut
from mixstyle.stages.presentation.html import links_from
from mixstyle.stages.presentation.pages import page_paths
from mixstyle.stages.separate.cutting import cutting_rule
from mixstyle.stages.settings.places import place_of_features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.cached_stems import cached_stems
from mixstyle.stages.songs.clips import SongClips, SongReader, given_stems
from mixstyle.stages.songs.describe.cached import cached_songs, percentiles_among
from mixstyle.stages.songs.describe.song import CachedSongs, DescribedSong
from mixstyle.stages.songs.describe.text import print_song
from mixstyle.stages.songs.names import distinct_names, page_names, refuse_clashes
from mixstyle.stages.songs.song_arguments import given_songs
from mixstyle.stages.steps.first_step import first_step, what_separate_lacks

VERSION = 1
"""Of the JSON file."""


def describe_songs(
    settings: Settings,
    songs: Sequence[Path],
    stems: Path | None = None,
    csv_path: Path | None = None,
    json_path: Path | None = None,
    png_path: Path | None = None,
    html_path: Path | None = None,
) -> list[DescribedSong]:
    """Describes songs, prints each as a table, and writes the files that are asked for.

    songs: files, folders of stems, or folders of music, which stand for the files in them. stems: a folder with vocals,
    bass, drums and other, which are then taken instead of separating. png_path, html_path: a file, or a folder
    where there are several songs. Songs that cannot be used are told and left out. Raises MixstyleError for paths that
    are not there and for outputs that cannot be written, before any work, and for songs that were left out, once all
    else is written.
    """
    if not songs and stems is None:
        raise MixstyleError("nothing to describe: give a song, or a folder of stems with --stems", code="bad-option")
    if stems is not None and len(songs) > 1:
        raise MixstyleError(
            f"--stems {stems}: belongs to one song, and {len(songs)} songs are given", code="bad-option"
        )
    files = given_songs(songs) if stems is None else [_given(stems)]
    names = distinct_names(songs if stems is not None and songs else files)
    outputs = Outputs(csv_path, json_path, png_path, html_path, several=len(files) > 1)
    outputs.check(files)
    cached = _cached_songs(settings)
    described: list[DescribedSong] = []
    failed: list[MixstyleError] = []
    for found in _read_all(settings, files, names, cached):
        if isinstance(found, MixstyleError):
            failed.append(found)
        else:
            described.append(found)
    for song in described:
        print_song(song, len(cached.values) if cached else 0)
    if described:
        failed += outputs.write(described, cached, page_paths(settings))
    raise_for(failed, "describe")
    return described


@dataclass(frozen=True)
class Outputs:
    """The files that are asked for. several: `png` and `html` are folders of pages."""

    csv: Path | None
    json: Path | None
    png: Path | None
    html: Path | None
    several: bool

    def check(self, songs: Sequence[Path]) -> None:
        """Raises MixstyleError for what cannot be written (cannot-write), and for a page's file of another kind and one
        of the songs (bad-option)."""
        for path, ending in ((self.png, ".png"), (self.html, ".html")):
            if path is not None and not self.several and path.suffix.lower() not in ("", ending):
                raise MixstyleError(f"{path}: should end in {ending}", code="bad-option")
        one_folder = self.several and self.html == self.png  # which takes the pages of both kinds
        refuse_clashes(self._all[:-1] if one_folder else self._all, songs)
        for path in self._all:
            if path is not None:
                (check_folder if self.several and path in (self.png, self.html) else check_file)(path)

    def write(
        self, songs: Sequence[DescribedSong], cached: CachedSongs | None, others: Mapping[str, Path]
    ) -> list[MixstyleError]:
        """Writes each, whatever becomes of the others; why some could not be written. others: pages by name, to which
        HTML pages link where they are there."""
        writes: list[tuple[Path, Callable[[Path], None]]] = []
        if self.csv is not None:
            writes.append((self.csv, lambda path: write_text(path, _as_csv(songs))))
        if self.json is not None:
            writes.append((self.json, lambda path: write_json(path, _as_json(songs, cached))))
        if self.png is not None:
            from mixstyle.stages.songs.describe.png_page import page  # loads Matplotlib

            writes += [
                (path, partial(page, song=one, cached=cached)) for path, one in self._pages(self.png, ".png", songs)
            ]
        if self.html is not None:
            from mixstyle.stages.songs.describe.html_page import html_page

            for path, one in self._pages(self.html, ".html", songs):
                writes.append((path, partial(html_page, song=one, cached=cached, links=links_from(path, others))))
        failed: list[MixstyleError] = []
        for path, write in writes:
            try:
                write_or_keep(path, write)
            except MixstyleError as error:
                failed.append(error)
        if not failed:
            for path in self._all:
                if path is not None:
                    say(f"describe: wrote {path}")
        return failed

    @property
    def _all(self) -> tuple[Path | None, ...]:
        return self.csv, self.json, self.png, self.html

    def _pages(self, place: Path, suffix: str, songs: Sequence[DescribedSong]) -> list[tuple[Path, DescribedSong]]:
        """A path for each song's page. place: a folder where songs are several, else the file."""
        names = page_names([song.name for song in songs], suffix)
        return [(place / name if self.several else place, song) for name, song in zip(names, songs, strict=True)]


def _read_all(
    settings: Settings, songs: Sequence[Path], names: Sequence[str], cached: CachedSongs | None
) -> Iterator[DescribedSong | MixstyleError]:
    """Every song described, or why it cannot be, which is told at once. names: what they are called."""
    options, separator, known = settings.separate, None, None
    if not all(is_stem_folder(song) for song in songs):
        separator = configured_separator(options, resolve_device(options.device))
        if separator is None:
            raise MixstyleError(
                "separate.input=stems: nothing is separated; give the song's folder "
                "with --stems, or --set separate.input=mixtures",
                code="bad-option",
            )
        _tell_of_other_stems(cached, separator)
        known = cached_stems(settings, separator, cutting_rule(options))
    reader, left_out = SongReader(options, separator, measure=True, cached=known), LeftOut("describe")
    made = reader.read(songs, max(1, min(options.workers, len(songs))))
    with progress("describe", len(names), "songs") as bar:
        for song, name, found in zip(songs, names, made, strict=True):
            if isinstance(found, UnreadableMusic):
                if len(songs) > 1:
                    left_out.tell(song, str(found))
                yield MixstyleError(f"{song}: {found}", code="no-music")
            else:
                left_out.note(song, found.note)
                yield _described(name, found, cached)
            bar.advance()
    left_out.end()


def _given(stems: Path) -> Path:
    try:
        given_stems(stems)
    except MixstyleError as error:
        raise MixstyleError(f"--stems {error}", code=error.code) from error
    return stems.resolve()


def _described(name: str, clips: SongClips, cached: CachedSongs | None) -> DescribedSong:
    if clips.loudness is None:
        raise ValueError("a song to describe should be measured")
    values = song_descriptors(describe(torch.stack(clips.stems), SAMPLE_RATE).numpy())
    percentiles = percentiles_among(values, cached)
    return DescribedSong(
        name, clips.duration_s, len(clips.stems), clips.clip_s, values, percentiles, clips.given, clips.loudness
    )


def _cached_songs(settings: Settings) -> CachedSongs | None:
    """The songs of the profile's store; None, and a line that says why, where there are none to compare with."""
    try:
        return cached_songs(place_of_features(settings, settings.features.features_path))
    except MixstyleError as error:
        remark(f"describe: no percentiles: {_why_none(error, settings)}")
        return None


def _why_none(error: MixstyleError, settings: Settings) -> str:
    """Why there are no songs to compare with, and the commands that describe some."""
    lacking = what_separate_lacks(settings) if error.code == "step-missing" else None
    if lacking is None or lacking.remedy[0] not in ("demo-songs", "separate"):
        error = first_step(error, settings)
        return error.told(completed(error.remedy, settings) if error.remedy else "")
    steps = (("separate", "--data-path", ANY_FOLDER), ("features",))
    return (
        f"they need descriptors of other songs, and {settings.features.features_path} is not there; with your music "
        f"folder in place of {ANY_FOLDER}, run: {' && '.join(completed(step, settings) for step in steps)}"
    )


def _tell_of_other_stems(cached: CachedSongs | None, separator: Separator) -> None:
    if cached is None:
        return
    if cached.separator != separator.fingerprint:
        remark(
            "describe: the stems of the cached songs come from another separator than this song's; differences in the "
            "percentiles may come from that"
        )
    if cached.cutting_version != CUTTING_VERSION:
        remark(
            "describe: the clips of the cached songs were cut by an older rule, which also takes the first "
            "and the last seconds of a song; differences in the percentiles may come from that"
        )


def _rows(song: DescribedSong) -> list[tuple[str, str, str, str, float, float | None]]:
    """Name, group, stem, unit, value, percentile of every descriptor; numbers to six digits."""
    return [
        (d.name, d.group, d.stem, d.unit, _rounded(value), None if math.isnan(percentile) else round(percentile, 2))
        for d, value, percentile in zip(DESCRIPTORS, song.values, song.percentiles, strict=True)
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _as_csv(songs: Sequence[DescribedSong]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["song", "name", "group", "stem", "unit", "value", "percentile"])
    for song in songs:
        writer.writerows([as_utf8(song.name), *row] for row in _rows(song))
    return text.getvalue()


def _as_json(songs: Sequence[DescribedSong], cached: CachedSongs | None) -> dict[str, Any]:
    keys = ("name", "group", "stem", "unit", "value", "percentile")
    return {
        "version": VERSION,
        "descriptors_version": DESCRIPTORS_VERSION,
        "compared_with_songs": len(cached.values) if cached else 0,
        "songs": [
            {
                "song": as_utf8(song.name),
                "duration_s": round(song.duration_s, 3),
                "clips": song.clips,
                "clip_s": song.clip_s,
                "stems_present": [stem for stem in STEMS if song.has(stem)],
                "loudness": song.loudness.to_json(),
                "descriptors": [dict(zip(keys, row, strict=True)) for row in _rows(song)],
            }
            for song in songs
        ],
    }
