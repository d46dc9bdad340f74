"""Which songs of an index have a stem that is mixed like this one's: by the descriptors that the index holds.

The encoder embeds a mix as a whole, so a stem is ranked by its own descriptors: each is brought to its median and its
robust standard deviation over the index's songs that have the stem, cut at MOST_DEVIATIONS, and the distance of two
songs is the root mean square of the differences. Level of the whole song counts for nothing. Songs without the stem are
left out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import has_stem
from mixstyle.pipeline.descriptors.robust_statistics import robust_statistics
from mixstyle.pipeline.descriptors.table import DESCRIPTORS

MOST_DEVIATIONS = 4.0
"""No value counts as farther from the median: one descriptor at its floor would decide alone."""
MOST_PAIRED = 1000
"""Songs whose pairs tell how near a distance is."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, repr=False)
class StemIndex:
    """The songs of an index that have a stem, in the order of their paths. values: all their descriptors [N, D].
    scaled: those of the stem, in deviations [N, S]."""

    stem: str
    songs: tuple[IndexedSong, ...]
    values: Floats
    scaled: Floats
    median: Floats
    deviation: Floats

    def distances(self, query: Floats) -> Floats:
        """Of each song to a song's descriptors [D], in deviations: [N]."""
        own = _scaled(query[None][:, stem_columns(self.stem)], self.median, self.deviation)
        return _distances(self.scaled, own)[:, 0]

    def pair_distances(self) -> Floats:
        """Of all pairs of songs, ascending; of MOST_PAIRED songs at most, spread evenly."""
        count = len(self.songs)
        if count < 2:
            return np.empty(0, np.float32)
        chosen = self.scaled[np.unique(np.linspace(0, count - 1, min(count, MOST_PAIRED)).round().astype(int))]
        return np.sort(_distances(chosen, chosen)[np.triu_indices(len(chosen), 1)])


def stem_columns(stem: str) -> list[int]:
    """The columns that tell how a stem is mixed, whatever the level of the song."""
    return [column for column, d in enumerate(DESCRIPTORS) if d.stem == stem and not d.moves_with_level]


def check_stem(stem: str) -> None:
    """Raises MixstyleError (bad-option) for a stem that there is not."""
    if stem not in STEMS:
        raise MixstyleError(f"--stem {stem}: should be one of {', '.join(STEMS)}", code="bad-option")


def stem_index(songs: SongIndex, stem: str, again: tuple[str, ...]) -> StemIndex:
    """The songs of an index that have a stem. again: the command that makes the index again.

    Raises MixstyleError for an index without the descriptors of this version (misfit), and where no song has the stem
    (no-music).
    """
    usable = songs.usable
    if any(song.descriptors.shape != (len(DESCRIPTORS),) for song in usable):
        told = f"{songs.folder}: holds no descriptors of this version, which --stem needs"
        raise MixstyleError(told, code="misfit", remedy=again)
    having = tuple(song for song in usable if has_stem(song.descriptors, stem))
    if not having:
        raise MixstyleError(f"{songs.folder}: none of its {len(usable)} songs has {stem}", code="no-music")
    values = np.stack([song.descriptors for song in having])
    columns = stem_columns(stem)
    median, deviation = robust_statistics(values[:, columns])
    return StemIndex(stem, having, values, _scaled(values[:, columns], median, deviation), median, deviation)


def _scaled(values: Floats, median: Floats, deviation: Floats) -> Floats:
    return np.clip((values - median) / deviation, -MOST_DEVIATIONS, MOST_DEVIATIONS).astype(np.float32)


def _distances(some: Floats, others: Floats) -> Floats:
    """Root mean square differences [n, m] of rows [n, S] and [m, S]."""
    from scipy.spatial.distance import cdist  # takes a while

    return (cdist(some, others) / np.sqrt(some.shape[1])).astype(np.float32)
