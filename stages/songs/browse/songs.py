"""The songs of an index as the page of `mixstyle browse` shows them."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index import SongIndex
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.retrieval import principal_components
from mixstyle.stages.songs.search import Difference, reasons

NEAREST = 8


@dataclass(frozen=True)
class Neighbour:
    """A song near another one: its number, the cosine, and in what the two are most alike and most apart."""

    song: int
    score: float
    alike: tuple[Difference, ...]
    apart: tuple[Difference, ...]


class Songs:
    """The songs of an index as the page shows them, by number."""

    def __init__(self, index: SongIndex) -> None:
        usable = index.usable
        self.names = [printable(song.path) for song in usable]
        self.durations_s = [song.duration_s for song in usable]
        self.loudness_lufs = [song.loudness_lufs for song in usable]
        self.embeddings = index.embeddings()
        self.descriptors = index.descriptors()

    @cached_property
    def map(self) -> tuple[NDArray[np.float64], list[float]]:
        """Points [N, 2] along the first two principal components, and the variance that each explains."""
        if len(self.names) < 3:
            points = np.zeros((len(self.names), 2))
            points[:, 0] = range(len(self.names))
            return points, [0.0, 0.0]
        return principal_components(self.embeddings)

    @cached_property
    def folders(self) -> list[str]:
        """The folder of each song, as far as all songs are told apart by few."""
        return [name.rpartition("/")[0].split("/")[0] for name in self.names]

    def nearest(self, song: int, k: int = NEAREST) -> list[Neighbour]:
        """The k songs nearest to one, nearest first."""
        cosines = self.embeddings @ self.embeddings[song]
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if i != song][:k]
        own = self.descriptors[song]
        return [Neighbour(i, float(cosines[i]), *reasons(own, self.descriptors[i], self.descriptors)) for i in order]

    def cosine(self, first: int, second: int) -> float:
        return float(self.embeddings[first] @ self.embeddings[second])

    def percentile(self, song: int, column: int) -> float:
        """Share of the songs below this one in a descriptor, in percent; equal ones count half."""
        values = self.descriptors[:, column]
        own = values[song]
        return float(100 * ((values < own).mean() + 0.5 * (values == own).mean()))
