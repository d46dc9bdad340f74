"""Center and scale of descriptors, which neither outliers nor constants upset."""

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.errors import MixstyleError

IQR_OF_NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution over its standard deviation: 2 x the normal quantile of 0.75."""

SCALE_FLOOR = 1e-3
"""Smallest scale of a descriptor, in its unit: a descriptor that is constant in training is not blown up."""

DEVIATION_FLOOR = 0.1
"""Smallest scale as a part of the standard deviation: one that seldom moves is not blown up when it does."""


def robust_statistics(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Center and scale `[D]` of descriptors `[N, D]`; rows that hold a NaN are left out.

    center = median; scale = max(IQR / 1.349, 0.1 standard deviations, 0.001), so that (d - center) / scale of a
    normal distribution is standard normal, and neither a constant descriptor nor one with a few outliers
    explodes. Raises MixstyleError where no row is left.
    """
    rows = np.asarray(values, dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        raise MixstyleError(
            "no clip has descriptors, so they have no statistics; see the reasons in failures.csv", code="no-music"
        )
    low, median, high = np.percentile(rows, [25, 50, 75], axis=0)
    scale = np.maximum((high - low) / IQR_OF_NORMAL, DEVIATION_FLOOR * rows.std(axis=0))
    return median.astype(np.float32), np.maximum(scale, SCALE_FLOOR).astype(np.float32)
