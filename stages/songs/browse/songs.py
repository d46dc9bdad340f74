"""The songs that the page of `mixstyle browse` shows: those of an index, and those that were dropped into the page."""

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import SongIndex, share_farther
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.retrieval import principal_components
from mixstyle.stages.songs.search.matches import Difference, is_same_file, reasons

NEAREST = 8
MOST_ADDED = 12
"""Songs that were dropped or made, until the oldest is forgotten."""
Vector = NDArray[np.float32]
_NOTHING: Vector = np.empty(0, np.float32)


@dataclass(frozen=True)
class Track:
    """A song that can be heard. key: what addresses call it. embedding, values: empty where it has none. heard_s: which
    seconds were embedded; None where that is still to be found out. stems: files of all of it, 24-bit WAV, where there
    are any."""

    key: str
    name: str
    path: Path
    duration_s: float
    loudness_lufs: float
    embedding: Vector = field(default_factory=lambda: _NOTHING)
    values: Vector = field(default_factory=lambda: _NOTHING)
    heard_s: tuple[tuple[float, float], ...] | None = None
    stems: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Neighbour:
    """A song near another one: its number, the cosine, and in what the two are most alike and most apart.

    closer_than: share of the index's pairs that are farther apart; NaN for an index of one song.
    """

    song: int
    score: float
    alike: tuple[Difference, ...]
    apart: tuple[Difference, ...]
    closer_than: float


class Songs:
    """The songs of an index, by number: their place in the order of their paths."""

    def __init__(self, index: SongIndex, root: Path) -> None:
        usable = index.usable
        self.names = [printable(song.path) for song in usable]
        self.durations_s = [song.duration_s for song in usable]
        self.loudness_lufs = [song.loudness_lufs for song in usable]
        self.embeddings = index.embeddings()
        self.descriptors = index.descriptors()
        self._paths = [root / song.path for song in usable]
        self._pairs = index.pair_cosines()
        self.nearest = lru_cache(maxsize=256)(self._nearest)

    @cached_property
    def map(self) -> tuple[NDArray[np.float64], list[float]]:
        """Points [N, 2] along the first two principal components, and the variance that each explains."""
        if len(self.names) < 3:
            points = np.zeros((len(self.names), 2))
            points[:, 0] = range(len(self.names))
            return points, [0.0, 0.0]
        return principal_components(self.embeddings)

    def track(self, song: int) -> Track:
        """Raises KeyError for a number that the index has not."""
        if not 0 <= song < len(self.names):
            raise KeyError(song)
        vectors = self.embeddings[song], self.descriptors[song]
        return Track(
            str(song), self.names[song], self._paths[song], self.durations_s[song], self.loudness_lufs[song], *vectors
        )

    def near(self, track: Track, k: int = NEAREST) -> list[Neighbour]:
        """The k songs nearest to one, nearest first; itself is left out, under other names (links) too."""
        return self.nearest(int(track.key), k) if track.key.isdecimal() else self._found(track, k, -1)

    def _nearest(self, song: int, k: int = NEAREST) -> list[Neighbour]:
        return self._found(self.track(song), k, song)

    def _found(self, track: Track, k: int, without: int) -> list[Neighbour]:
        cosines = self.cosines(track)
        nearest = (int(i) for i in np.argsort(-cosines, kind="stable") if i != without)
        others = (i for i in nearest if without < 0 or not is_same_file(self._paths[i], track.path))
        return [self._neighbour(track, song, float(cosines[song])) for song in islice(others, k)]

    def _neighbour(self, track: Track, song: int, cosine: float) -> Neighbour:
        why = reasons(track.values, self.descriptors[song], self.descriptors)
        return Neighbour(song, cosine, *why, self.closer_than(cosine))

    def cosines(self, track: Track) -> Vector:
        """Of a song with all of the index [N]."""
        return self.embeddings @ track.embedding

    def closer_than(self, cosine: float) -> float:
        """Share of the index's pairs that are farther apart."""
        return share_farther(self._pairs, cosine)

    def percentile(self, values: Vector, column: int) -> float:
        """Share of the songs below a value of a descriptor, in percent; equal ones count half."""
        everyone, own = self.descriptors[:, column], values[column]
        return float(100 * ((everyone < own).mean() + 0.5 * (everyone == own).mean()))


class Library:
    """All tracks by key: the index's, and those that were added. Any number of threads may ask.

    forget: called with a track that is gone.
    """

    def __init__(self, songs: Songs, forget: Callable[[Track], None]) -> None:
        self.songs = songs
        self._forget = forget
        self._added: OrderedDict[str, Track] = OrderedDict()
        self._lock = threading.Lock()

    def track(self, key: str) -> Track:
        """Raises KeyError for a key that there is not."""
        if key.isascii() and key.isdecimal() and len(key) < 10:
            return self.songs.track(int(key))
        with self._lock:
            return self._added[key]

    @property
    def added(self) -> list[Track]:
        """Those that were added, in their order."""
        with self._lock:
            return list(self._added.values())

    def add(self, track: Track) -> None:
        """Adds a track; the oldest is forgotten where there are too many."""
        with self._lock:
            self._added[track.key] = track
            gone = [self._added.popitem(last=False)[1] for _ in range(len(self._added) - MOST_ADDED)]
        for old in gone:
            self._forget(old)

    def remove(self, key: str) -> None:
        """Forgets a track that was added. Raises KeyError."""
        with self._lock:
            gone = self._added.pop(key)
        self._forget(gone)


def known(value: float) -> float | None:
    """A number, or None for NaN, which JSON has not."""
    return None if math.isnan(value) else round(value, 3)
