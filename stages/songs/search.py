"""`mixstyle search`: which songs of an index are mixed like this one, and why."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixstyle.cache.song_index import IndexedSong, SongIndex
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.presence import is_meaningful
from mixstyle.stages.presentation.descriptor_names import in_sentence, shown, shown_unit
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed import embedder_of
from mixstyle.stages.songs.embedder import EmbeddedSong
from mixstyle.stages.songs.index import cutting_version_of_index, open_index

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
        name = f"{d.stem} {in_sentence(d.title)}"
        return f"{name} {shown(self.column, self.query, self.found)} {shown_unit(d.unit)}".rstrip()


@dataclass(frozen=True)
class Match:
    """A song found. score: cosine. alike and apart: the descriptors that are closest, and those that differ most."""

    song: IndexedSong
    score: float
    alike: tuple[Difference, ...]
    apart: tuple[Difference, ...]


def search(settings: Settings, song: Path, k: int = 10) -> list[Match]:
    """The k songs of the index that are mixed most like a song, nearest first; prints them as a table.

    The song itself, where the index holds it, is left out. Raises MixstyleError for a song that cannot be read.
    """
    if k < 1:
        raise MixstyleError(f"-k {k}: should be 1 or more", code="bad-option")
    with embedder_of(settings, cutting_version=cutting_version_of_index(settings), measure=True) as embedder:
        songs, root = open_index(settings, embedder)
        query = embedder.song(song)
    found = matches(songs, query, k, without=song, root=root)
    _print(song, query, found, len(songs.usable))
    return found


def matches(songs: SongIndex, query: EmbeddedSong, k: int, without: Path, root: Path) -> list[Match]:
    """The k nearest songs, with reasons. without: a file that is left out under whatever names the index has it."""
    everyone = songs.descriptors()
    asked, kept = k + 1, list[tuple[IndexedSong, float]]()
    while len(kept) < k:
        nearest = songs.search(query.embedding.numpy(), asked)
        kept = [(song, score) for song, score in nearest if not _is_same_file(root / song.path, without)][:k]
        if len(nearest) < asked:
            break
        asked *= 2
    return [Match(song, score, *reasons(query.values, song.descriptors, everyone)) for song, score in kept]


def _is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file, by links too."""
    try:
        return path.samefile(other)
    except OSError:  # one of them is gone
        return path == other


def reasons(
    query: NDArray[np.float32], found: NDArray[np.float32], everyone: NDArray[np.float32]
) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """In which descriptors two songs [D] are closest and in which they differ most, by the songs [N, D] around them.

    A descriptor counts by the share of all songs that are nearer to the query in it, so that being alike in something
    that all songs share tells nothing; equal shares go by the distance in interquartile ranges. Of stems that one of
    the two has not, loudness alone counts.
    """
    distance = np.abs(everyone - query)
    own = np.abs(found - query)
    share = (distance < own).mean(0) + 0.5 * (distance == own).mean(0)
    low, high = np.percentile(everyone, [25, 75], axis=0)
    ranges = own / np.maximum(high - low, 1e-6)
    columns = [column for column in range(len(DESCRIPTORS)) if is_meaningful(column, query, found)]
    order = sorted(columns, key=lambda column: (share[column], ranges[column]))

    def told(chosen: list[int]) -> tuple[Difference, ...]:
        return tuple(Difference(c, float(query[c]), float(found[c]), float(share[c])) for c in chosen)

    return told(order[:REASONS]), told(order[: -REASONS - 1 : -1])


def _print(path: Path, query: EmbeddedSong, found: list[Match], songs: int) -> None:
    caption = "values: the query's / the song's"
    level = f" ({query.loudness.loudness_lufs:.1f} LUFS)" if query.loudness else ""
    title = Text(f"mixed like {printable(path.name)}{level}, of {songs} songs")
    table = Table(title=title, title_justify="left", caption=caption, box=None)
    table.add_column("", justify="right")
    table.add_column("cosine", justify="right")
    table.add_column("LUFS", justify="right")
    table.add_column("song", overflow="fold")
    table.add_column("most alike in", overflow="fold")
    table.add_column("most apart in", overflow="fold")
    for rank, match in enumerate(found, 1):
        alike, apart = ("\n".join(map(str, side)) for side in (match.alike, match.apart))
        level = "-" if math.isnan(match.song.loudness_lufs) else f"{match.song.loudness_lufs:.1f}"
        table.add_row(str(rank), f"{match.score:.3f}", level, Text(printable(match.song.path)), alike, apart)
    Console(width=None if Console().is_terminal else 150).print(table)
