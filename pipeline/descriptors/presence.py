"""Whether a song has a stem to speak of, and which descriptors mean something without it: one rule for all."""

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS

ABSENT_LU = -40.0
"""A stem this far below the mix is taken as not there: what a separator leaves behind has no mix of its own."""


def relative_column(stem: str) -> int:
    """The column of a stem's loudness against the mix."""
    return COLUMN[f"{stem}_relative_loudness_lu"]


def is_loudness(column: int) -> bool:
    """Whether a descriptor means something of a stem that is not there, too."""
    return DESCRIPTORS[column].without_stem


def is_meaningful(column: int, *songs: NDArray[np.float32]) -> bool:
    """Whether a descriptor means something for all of the songs, each the values [D] of one: that they have its stem,
    or that it is a loudness."""
    loud = relative_column(DESCRIPTORS[column].stem)
    return is_loudness(column) or all(bool(values[loud] > ABSENT_LU) for values in songs)
