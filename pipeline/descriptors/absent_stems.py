"""Whether a song has a stem to speak of, and which descriptors mean something without it: one rule for all."""

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS

ABSENT_LU = -30.0
"""A stem this far below its mix, or further, is absent: what a separator leaves behind has no mix of its own, and
raised to the level of the others it would be an instrument that is not there. Both in integrated loudness
(BS.1770-4)."""


def is_present(stem_lufs: NDArray[np.floating], mix_lufs: NDArray[np.floating] | float) -> NDArray[np.bool_]:
    """Which stems are there, from their loudness and that of their mix. Silence, and NaN, is not.

    >>> is_present(np.array([-20.0, -49.0, -51.0, -70.0]), -20.0).tolist()
    [True, True, False, False]
    """
    stem_lufs = np.asarray(stem_lufs)
    return (stem_lufs > LOUDNESS_FLOOR_LUFS) & (stem_lufs - mix_lufs > ABSENT_LU)


def has_stem(values: NDArray[np.float32], stem: str) -> bool:
    """Whether a song with the descriptors [D] has that stem, by the same rule."""
    return bool(values[relative_column(stem)] > ABSENT_LU)


def relative_column(stem: str) -> int:
    """The column of a stem's loudness against the mix."""
    return COLUMN[f"{stem}_relative_loudness_lu"]


def is_loudness(column: int) -> bool:
    """Whether a descriptor means something of a stem that is not there, too."""
    return DESCRIPTORS[column].without_stem


def is_meaningful(column: int, *songs: NDArray[np.float32]) -> bool:
    """Whether a descriptor means something for all of the songs, each the values [D] of one: that they have its stem
    and, where it is about two of them, the other one; or that it is a loudness."""
    described = DESCRIPTORS[column]
    stems = (described.stem, described.other_stem or described.stem)
    return is_loudness(column) or all(has_stem(values, stem) for values in songs for stem in stems)
