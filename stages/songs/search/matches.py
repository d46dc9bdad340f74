"""The songs of an index that are nearest to one, and the descriptors that tell why."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import IndexedSong, SongIndex, share_farther
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.absent_stems import has_stem, is_meaningful
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.stages.presentation.audible_differences import aspect_of, is_heard
from mixstyle.stages.presentation.descriptor_names import in_sentence, shown, shown_unit
from mixstyle.stages.songs.index.indexed import KnownSong
from mixstyle.stages.songs.search.by_stem import stem_columns, stem_index

if TYPE_CHECKING:
    from mixstyle.stages.songs.embed.embedder import EmbeddedSong  # brings torch

Query: TypeAlias = "EmbeddedSong | KnownSong"
"""What is searched with: a song as the networks have it, or a row of the index."""
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
        kept = [found for found in nearest if without is None or not is_same_file(root / found[0].path, without)][:k]
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
    others = (p for p in nearest if without is None or not is_same_file(root / having.songs[p].path, without))
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


def is_same_file(path: Path, other: Path) -> bool:
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
    columns = [c for c in asked if is_meaningful(c, query, found) and is_heard(c, query, found)]
    order = sorted(columns, key=lambda column: (share[column], ranges[column]))

    def told(ordered: Iterable[int]) -> tuple[Difference, ...]:
        chosen: dict[tuple[str, str], int] = {}
        for column in ordered:
            chosen.setdefault(aspect_of(column), column)
        columns = islice(chosen.values(), REASONS)
        return tuple(Difference(c, float(query[c]), float(found[c]), float(share[c])) for c in columns)

    return told(order), told(reversed(order))


def interquartile_ranges(everyone: NDArray[np.float32]) -> NDArray[np.float32]:
    """The interquartile range of each descriptor [D] over songs [N, D]: of a hundred thousand it takes a second."""
    low, high = np.percentile(everyone, [25, 75], axis=0)
    return high - low
