"""Two songs' mixes side by side: what differs, how far, and what of it is heard."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.song_index.index import share_farther
from mixstyle.pipeline.descriptors.absent_stems import has_stem, is_meaningful
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.stages.presentation.audible_differences import HeardDifference, heard_differences
from mixstyle.stages.songs.embed.embedder import EmbeddedSong, Embedder


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two songs. names, values [2, D] and loudness of each. cosine: of their embeddings. deviation: robust standard
    deviation of each descriptor over the songs that the encoder was trained on [D]. closer_than: the share of an
    index's pairs of songs that are farther apart; NaN without an index."""

    names: tuple[str, str]
    values: NDArray[np.float32]
    cosine: float
    deviation: NDArray[np.float32]
    loudness: tuple[SongLoudness | None, SongLoudness | None] = (None, None)
    closer_than: float = math.nan

    def __repr__(self) -> str:
        return f"Comparison({self.names[0]!r}, {self.names[1]!r}, cosine {self.cosine:.3f})"

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Descriptors of stems that both have, and loudness [D]."""
        return np.array([is_meaningful(column, *self.values) for column in range(len(DESCRIPTORS))])

    @cached_property
    def apart(self) -> NDArray[np.float32]:
        """Second minus first, in deviations; 0 where it does not count."""
        return np.where(self.counted, (self.values[1] - self.values[0]) / self.deviation, 0.0).astype(np.float32)

    @cached_property
    def heard(self) -> list[HeardDifference]:
        """What is heard of the second against the first, the largest difference first; their loudness is no part."""
        return heard_differences(*self.values)

    def distance(self, stem: str, group: str | None = None) -> float:
        """Root mean square of a stem's differences, in deviations; NaN where none counts."""
        chosen = [
            column
            for column, d in enumerate(DESCRIPTORS)
            if d.stem == stem and self.counted[column] and group in (None, d.group)
        ]
        return float(np.sqrt(np.square(self.apart[chosen]).mean())) if chosen else float("nan")

    def has(self, song: int, stem: str) -> bool:
        """Whether the first (0) or the second (1) has a stem to speak of."""
        return has_stem(self.values[song], stem)


def comparison(
    embedder: Embedder,
    first: EmbeddedSong,
    second: EmbeddedSong,
    pairs: NDArray[np.float32] | None = None,
    *,
    names: tuple[str, str] | None = None,
) -> Comparison:
    """Two songs that were embedded by one embedder. pairs: cosines that theirs is told among, ascending. names: what
    the songs are called, if not as they are."""
    deviation = embedder.encoder.encoder.descriptor_scale.cpu().numpy()
    cosine = float(first.embedding @ second.embedding)
    return Comparison(
        names or (first.name, second.name),
        np.stack([first.values, second.values]),
        cosine,
        np.maximum(deviation, 1e-6),
        (first.loudness, second.loudness),
        math.nan if pairs is None else share_farther(pairs, cosine),
    )
