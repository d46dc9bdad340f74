"""`mixstyle search`: which songs of an index are mixed like this one, and why."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixstyle.cache.song_index.index import IndexedSong, SongIndex, share_farther
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import as_utf8, counted, printable
from mixstyle.pipeline.descriptors.presence import has_stem, is_meaningful
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.stages.common.limits import COUNT
from mixstyle.stages.common.outputs import write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.presentation.descriptor_names import in_sentence, shown, shown_unit
from mixstyle.stages.presentation.values import as_csv, percent, rounded
from mixstyle.stages.settings.kept import with_encoder
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.provenance import embedding_models, keep_models
from mixstyle.stages.songs.given import check_song
from mixstyle.stages.songs.index.indexed import KnownSong, known_song
from mixstyle.stages.songs.index.reach import reached_index
from mixstyle.stages.songs.names import refuse_clashes
from mixstyle.stages.songs.search.by_stem import check_stem, stem_columns, stem_index

if TYPE_CHECKING:
    from mixstyle.stages.songs.embed.embedder import EmbeddedSong  # brings torch

Query: TypeAlias = "EmbeddedSong | KnownSong"
"""What is searched with: a song as the networks have it, or a row of the index."""
VERSION = 1
"""Of the JSON file."""
REASONS = 3
"""Descriptors that tell why, on either side."""


@dataclass(frozen=True)
class Difference:
    """One descriptor of two songs. share: of the index's songs, how many are nearer to the first in it."""

    column: int
    query: float
    found: float
    share: float

    def __str__(self) -> str:
        d = DESCRIPTORS[self.column]
        name = f"{d.stem}: {in_sentence(d.title)}"
        return f"{name} {shown(self.column, self.query, self.found)} {shown_unit(d.unit)}".rstrip()


@dataclass(frozen=True, repr=False)
class Match:
    """A song found. score: cosine; of a search by a stem, the distance of its descriptors, in robust standard
    deviations. alike and apart: the descriptors that are closest, and those that differ most.

    closer_than: share of the index's pairs of songs that are farther apart than the query and this song; NaN for an
    index of one song. stem: what was searched by; empty for all of the mix.
    """

    song: IndexedSong
    score: float
    alike: tuple[Difference, ...]
    apart: tuple[Difference, ...]
    closer_than: float = math.nan
    stem: str = ""

    def __repr__(self) -> str:
        told = f"{score_name(self.stem)} {self.score:.3f}"
        return f"Match({self.song.path!r}, {told}, closer than {self.closer_than:.1%} of pairs)"


def search(
    settings: Settings,
    song: Path,
    k: int = 10,
    json_path: Path | None = None,
    csv_path: Path | None = None,
    stem: str = "",
) -> list[Match]:
    """The k songs of the index that are mixed most like a song, nearest first; prints them as a table.

    json_path, csv_path: the same as files. stem: ranks by that stem's descriptors instead (`stem_search`). The song
    itself, where the index holds it, is left out. Raises MixstyleError for a song that cannot be read, and, before any
    work, for files that cannot be written.
    """
    check_k(k)
    if stem:
        check_stem(stem)
    for path in (json_path, csv_path):
        if path is not None:
            check_file(path)
    refuse_clashes([json_path, csv_path], [song])
    check_song(song)
    with reached_index(settings) as here:
        query, songs, root = known_song(here, song) or _embedded(here, song)
        found = matches(songs, query, k, without=song, root=root, stem=stem)
    _print(song, query, found, len(songs.usable), stem)
    if json_path is not None:
        write_or_keep(json_path, lambda path: write_json(path, matches_as_json(query, found, len(songs.usable), stem)))
    if csv_path is not None:
        write_or_keep(csv_path, lambda path: write_text(path, matches_as_csv(found, stem)))
    for path in (json_path, csv_path):
        if path is not None:
            say(f"search: wrote {path}")
    return found


def _embedded(settings: Settings, song: Path) -> tuple[Query, SongIndex, Path]:
    """A song as the networks have it, the index, and its music folder."""
    from mixstyle.stages.songs.embed.stage import embedder_of  # brings torch
    from mixstyle.stages.songs.index.stage import check_index, cutting_version_of_index, open_index

    check_index(settings)  # before the networks are loaded
    settings = with_encoder(settings)
    models = embedding_models(settings)
    with embedder_of(settings, cutting_version=cutting_version_of_index(settings), measure=True) as embedder:
        keep_models(models, embedder.fingerprint)
        songs, root = open_index(settings, embedder)
        with progress("search", 1, "songs", brief=True) as bar:
            found = embedder.song(song)
            bar.advance()
    return found, songs, root


def check_k(k: int) -> None:
    """Raises MixstyleError (bad-option) for a number of songs below 1."""
    if not 1 <= k <= COUNT:
        raise MixstyleError(f"-k {k}: should be 1 to {COUNT}", code="bad-option")


def score_name(stem: str) -> str:
    """What the score of a search is, in a word."""
    return "distance" if stem else "cosine"


def matches(songs: SongIndex, query: Query, k: int, without: Path | None, root: Path, stem: str = "") -> list[Match]:
    """The k nearest songs, with reasons. without: a file that is left out under whatever names the index has it. stem:
    what is searched by; all of the mix unless given.

    Raises MixstyleError for a query without the stem (no-music), and as `stem_index` does.
    """
    if stem:
        return _stem_matches(songs, query, k, without, root, stem)
    everyone, pairs = songs.descriptors(), songs.pair_cosines()
    interquartile = interquartile_ranges(everyone)
    asked, kept = k + 1, list[tuple[IndexedSong, float]]()
    while len(kept) < k:
        nearest = songs.search(np.asarray(query.embedding), asked)
        kept = [found for found in nearest if without is None or not _is_same_file(root / found[0].path, without)][:k]
        if len(nearest) < asked:
            break
        asked *= 2
    why = partial(reasons, query.values, everyone=everyone, interquartile=interquartile)
    return [Match(song, score, *why(song.descriptors), share_farther(pairs, score)) for song, score in kept]


def _stem_matches(songs: SongIndex, query: Query, k: int, without: Path | None, root: Path, stem: str) -> list[Match]:
    if not has_stem(query.values, stem):
        raise MixstyleError(f"{query.name}: it has no {stem} to search by", code="no-music")
    having = stem_index(songs, stem, ("index", str(root), "--rebuild"))
    distances, nearness = having.distances(query.values), -having.pair_distances()[::-1]
    nearest = (int(place) for place in np.argsort(distances, kind="stable"))
    others = (p for p in nearest if without is None or not _is_same_file(root / having.songs[p].path, without))
    columns, interquartile = stem_columns(stem), interquartile_ranges(having.values)
    return [
        Match(
            having.songs[place],
            float(distances[place]),
            *reasons(query.values, having.songs[place].descriptors, having.values, columns, interquartile),
            share_farther(nearness, -float(distances[place])),
            stem,
        )
        for place in islice(others, k)
    ]


def matches_as_json(query: Query, found: Sequence[Match], songs: int, stem: str = "") -> dict[str, Any]:
    """What is found, as JSON has it. songs: how many the index holds. stem: what was searched by."""

    def told(differences: Sequence[Difference]) -> list[dict[str, Any]]:
        return [
            {
                "name": DESCRIPTORS[one.column].name,
                "unit": DESCRIPTORS[one.column].unit,
                "query": rounded(one.query),
                "song": rounded(one.found),
                "share_nearer": rounded(one.share),
            }
            for one in differences
        ]

    return {
        "version": VERSION,
        "query": {"song": as_utf8(query.name), "loudness": query.loudness.to_json() if query.loudness else None},
        "songs_in_index": songs,
        "stem": stem or None,
        "songs": [
            {
                "rank": rank,
                "path": as_utf8(match.song.path),
                score_name(stem): rounded(match.score),
                "closer_than": rounded(match.closer_than),
                "loudness_lufs": rounded(match.song.loudness_lufs),
                "most_alike_in": told(match.alike),
                "most_apart_in": told(match.apart),
            }
            for rank, match in enumerate(found, 1)
        ],
    }


def matches_as_csv(found: Sequence[Match], stem: str = "") -> str:
    """What is found, a row a song. stem: what was searched by."""
    head = ("rank", "path", score_name(stem), "closer_than", "loudness_lufs", "most_alike_in", "most_apart_in")
    rows = [
        (
            rank,
            as_utf8(match.song.path),
            rounded(match.score),
            rounded(match.closer_than),
            rounded(match.song.loudness_lufs),
            *(" ".join(DESCRIPTORS[one.column].name for one in side) for side in (match.alike, match.apart)),
        )
        for rank, match in enumerate(found, 1)
    ]
    return as_csv(head, rows)


def _is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by links too."""
    try:
        return path.samefile(other)
    except OSError:  # one of them is gone
        return path == other


def reasons(
    query: NDArray[np.float32],
    found: NDArray[np.float32],
    everyone: NDArray[np.float32],
    among: Collection[int] | None = None,
    interquartile: NDArray[np.float32] | None = None,
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """In which descriptors two songs [D] are closest and in which they differ most, by the songs [N, D] around them.
    among: the columns that are looked at; all unless given.

    A descriptor counts by the share of all songs that are nearer to the query in it, so that being alike in something
    that all songs share tells nothing; equal shares go by the distance in interquartile ranges. Of stems that one of
    the two has not, loudness alone counts. interquartile: `interquartile_ranges(everyone)`, where it is known.
    """
    distance = np.abs(everyone - query)
    own = np.abs(found - query)
    share = (distance < own).mean(0) + 0.5 * (distance == own).mean(0)
    ranges = own / np.maximum(interquartile_ranges(everyone) if interquartile is None else interquartile, 1e-6)
    asked = range(len(DESCRIPTORS)) if among is None else among
    columns = [column for column in asked if is_meaningful(column, query, found)]
    order = sorted(columns, key=lambda column: (share[column], ranges[column]))

    def told(chosen: list[int]) -> tuple[Difference, ...]:
        return tuple(Difference(c, float(query[c]), float(found[c]), float(share[c])) for c in chosen)

    return told(order[:REASONS]), told(order[: -REASONS - 1 : -1])


def interquartile_ranges(everyone: NDArray[np.float32]) -> NDArray[np.float32]:
    """The interquartile range of each descriptor [D] over songs [N, D]: of a hundred thousand it takes a second."""
    low, high = np.percentile(everyone, [25, 75], axis=0)
    return high - low


def _print(path: Path, query: Query, found: list[Match], songs: int, stem: str) -> None:
    pairs = "closer than: share of the index's pairs of songs that are farther apart"
    caption = f"{pairs}; values: the query's / the song's"
    if stem:
        told = f"distance: of the stem's own descriptors, in robust standard deviations over songs with {stem}"
        caption = f"{told}\n{caption}"
    level = f" ({query.loudness.loudness_lufs:.1f} LUFS)" if query.loudness else ""
    what = f"{stem} mixed like that of" if stem else "mixed like"
    title = Text(f"{what} {printable(path.name)}{level}, of {counted(songs, 'song')}")
    table = Table(title=title, title_justify="left", caption=caption, box=None)
    table.add_column("", justify="right")
    table.add_column(score_name(stem), justify="right")
    table.add_column("closer than", justify="right")
    table.add_column("LUFS", justify="right")
    table.add_column("song", overflow="fold")
    table.add_column("most alike in", overflow="fold")
    table.add_column("most apart in", overflow="fold")
    for rank, match in enumerate(found, 1):
        alike, apart = ("\n".join(map(str, side)) for side in (match.alike, match.apart))
        level = "-" if math.isnan(match.song.loudness_lufs) else f"{match.song.loudness_lufs:.1f}"
        near = (f"{match.score:.3f}", percent(match.closer_than), level)
        table.add_row(str(rank), *near, Text(printable(match.song.path)), alike, apart)
    Console(width=None if Console().is_terminal else 150).print(table)
