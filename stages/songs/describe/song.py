"""A song's descriptors beside those of the cached songs: what `describe` computes, prints and draws."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, has_stem, is_loudness, relative_column
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness


@dataclass(frozen=True)
class CachedSongs:
    """Descriptors [songs, D] of the songs in the store, of their clips by `song_descriptors`.

    separator: what made their stems. cutting_version: of the rule that cut them.
    """

    values: NDArray[np.float32]
    separator: str
    cutting_version: int = CUTTING_VERSION

    def of(self, column: int) -> NDArray[np.float32]:
        """A descriptor's values over the songs that have the stem; over all songs for loudness itself."""
        values = self.values[:, column]
        stem = DESCRIPTORS[column].stem
        return values if is_loudness(column) else values[self.values[:, relative_column(stem)] > ABSENT_LU]


@dataclass(frozen=True, repr=False)
class DescribedSong:
    """A song's descriptors. values: [D]. percentiles: [D] among the cached songs, NaN where there are none.

    given: whether the stems were given, not separated. loudness: of all of the song.
    """

    name: str
    duration_s: float
    clips: int
    clip_s: float
    values: NDArray[np.float32]
    percentiles: NDArray[np.float64]
    given: bool
    loudness: SongLoudness

    def __repr__(self) -> str:
        present = ", ".join(stem for stem in STEMS if self.has(stem))
        return f"DescribedSong({self.name!r}, {self.duration_s:.1f} s, {self.loudness}, {present})"

    def has(self, stem: str) -> bool:
        """Whether the song has that stem to speak of."""
        return has_stem(self.values, stem)


def ordinal(percentile: float) -> str:
    """A percentile in words.

    >>> ordinal(82.6), ordinal(1.2), ordinal(11.8), ordinal(0.3)
    ('83rd', '1st', '12th', '0th')
    """
    n = round(percentile)
    ending = "th" if n % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"
