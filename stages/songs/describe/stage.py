"""`mixstyle describe`: the descriptors of songs, for people: a table, a figure, and where they lie among cached songs.

A song is read as the cached ones were (`mixstyle.stages.songs.clips`), and a value is the median over its clips, here
as there: so its percentile is among songs like with like. Its loudness is that of all of the song.
"""

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.music.cutting import CUTTING_VERSION
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION, describe
from mixstyle.pipeline.descriptors.presence import is_meaningful
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.separate.cutting import cutting_rule
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.cached_stems import cached_stems
from mixstyle.stages.songs.clips import SongClips, SongReader, given_stems
from mixstyle.stages.songs.describe.page import page
from mixstyle.stages.songs.describe.song import CachedSongs, DescribedSong
from mixstyle.stages.songs.describe.text import print_song

VERSION = 1
"""Of the JSON file."""


def describe_songs(
    settings: Settings,
    songs: Sequence[Path],
    stems: Path | None = None,
    csv_path: Path | None = None,
    json_path: Path | None = None,
    png_path: Path | None = None,
) -> list[DescribedSong]:
    """Describes songs, prints each as a table, and writes the files that are asked for.

    stems: a folder with vocals, bass, drums and other, which are then taken instead of separating. png_path: a file,
    or a folder where there are several songs. Raises MixstyleError for music or stems that cannot be used.
    """
    if not songs and stems is None:
        raise MixstyleError("nothing to describe: give a song, or a folder of stems with --stems", code="bad-option")
    if stems is not None and len(songs) > 1:
        raise MixstyleError(f"--stems {stems}: are of one song, and {len(songs)} are given", code="bad-option")
    cached = _cached_songs(settings)
    described = _read_all(settings, songs, stems, cached)
    for song in described:
        print_song(song, len(cached.values) if cached else 0)
    if csv_path is not None:
        write_text(csv_path, _as_csv(described))
    if json_path is not None:
        write_json(json_path, _as_json(described, cached))
    if png_path is not None:
        for song in described:
            path = png_path if len(described) == 1 else png_path / f"{Path(song.name).stem}.png"
            page(path, song, cached)
    for path in (csv_path, json_path, png_path):
        if path is not None:
            say(f"describe: wrote {path}")
    return described


def _read_all(
    settings: Settings, songs: Sequence[Path], stems: Path | None, cached: CachedSongs | None
) -> list[DescribedSong]:
    """Every song described. Raises MixstyleError for the first that cannot be used."""
    options = settings.separate
    if stems is None:
        missing = next((song for song in songs if not song.is_file()), None)
        if missing is not None:
            raise MixstyleError(f"{missing}: no such file", code="not-found")
        separator = configured_separator(options, resolve_device(options.device))
        if separator is None:
            raise MixstyleError("separate.input=stems: give the song's folder with --stems", code="bad-option")
        _tell_of_other_stems(cached, separator)
        known = cached_stems(options, separator, cutting_rule(options))
        reader = SongReader(options, separator, measure=True, cached=known)
        made = reader.read(songs, max(1, min(options.workers, len(songs))))
        names = [song.name for song in songs]
    else:
        names = [songs[0].name if songs else stems.resolve().name]
        made = SongReader(options, None, measure=True).read([_given(stems)], 1)
    described = []
    with progress("describe", len(names), "songs") as bar:
        for name, found in zip(names, made, strict=True):
            if isinstance(found, UnreadableMusic):
                raise MixstyleError(f"{name}: {found}", code="no-music")
            described.append(_described(name, found, cached))
            bar.advance()
    return described


def _given(stems: Path) -> Path:
    try:
        given_stems(stems)
    except MixstyleError as error:
        raise MixstyleError(f"--stems {error}", code=error.code) from error
    return stems.resolve()


def _described(name: str, clips: SongClips, cached: CachedSongs | None) -> DescribedSong:
    if clips.loudness is None:
        raise ValueError("a song to describe should be measured")
    rows = [describe(stems[None], SAMPLE_RATE)[0].numpy() for stems in clips.stems]
    values = np.median(rows, axis=0).astype(np.float32)
    percentiles = _percentiles(values, cached)
    return DescribedSong(
        name, clips.duration_s, len(rows), clips.clip_s, values, percentiles, clips.given, clips.loudness
    )


def _percentiles(values: NDArray[np.float32], cached: CachedSongs | None) -> NDArray[np.float64]:
    """Share of the cached songs below each value, in percent; equal ones count half."""
    found = np.full(len(values), math.nan)
    if cached is None:
        return found
    for column, value in enumerate(values):
        songs = cached.of(column)
        if len(songs) and is_meaningful(column, values):
            found[column] = 100 * ((songs < value).sum() + 0.5 * (songs == value).sum()) / len(songs)
    return found


def _cached_songs(settings: Settings) -> CachedSongs | None:
    """The songs of the profile's store; None, and a line that says why, where there are none to compare with."""
    path = settings.features.features_path
    command = completed(("features",), settings)
    if not path.exists():
        say(f"describe: no percentiles: {path} is not there; run: {command}")
        return None
    try:
        store = FeatureStore.open(path)
    except MixstyleError as error:
        line = error.told(completed(error.remedy, settings)) if error.remedy else str(error)
        say(f"describe: no percentiles: {line}")
        return None
    again = ("features", "--rebuild")
    if store.descriptors_version != DESCRIPTORS_VERSION or store.names != [d.name for d in DESCRIPTORS]:
        say(f"describe: no percentiles: {path} holds other descriptors; run: {completed(again, settings)}")
        return None
    values = store.values()
    good = set(np.flatnonzero(np.isfinite(values).all(axis=1)).tolist())
    tracks: dict[str, list[int]] = {}
    for row, track in enumerate(store.track_ids):
        if row in good:
            tracks.setdefault(track, []).append(row)
    if not tracks:
        say(f"describe: no percentiles: {path} has no song yet; run: {command}")
        return None
    medians = np.stack([np.median(values[rows], axis=0) for rows in tracks.values()])
    separate = store.made_with.get("separate", {})
    return CachedSongs(
        medians.astype(np.float32), str(separate.get("separator", "")), separate.get("cutting_version", 1)
    )


def _tell_of_other_stems(cached: CachedSongs | None, separator: Separator) -> None:
    if cached is None:
        return
    if cached.separator != separator.fingerprint:
        say("describe: the cached songs' stems come from another separator than this song's: compare with care")
    if cached.cutting_version != CUTTING_VERSION:
        say(
            "describe: the cached songs' clips were cut by an older rule, also where songs begin and end: "
            "compare with care"
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
        writer.writerows([song.name, *row] for row in _rows(song))
    return text.getvalue()


def _as_json(songs: Sequence[DescribedSong], cached: CachedSongs | None) -> dict[str, Any]:
    keys = ("name", "group", "stem", "unit", "value", "percentile")
    return {
        "version": VERSION,
        "descriptors_version": DESCRIPTORS_VERSION,
        "compared_with_songs": len(cached.values) if cached else 0,
        "songs": [
            {
                "song": song.name,
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
