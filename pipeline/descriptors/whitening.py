"""Whitening within groups: descriptors weighed by how little they differ between clips that were mixed alike."""

import numpy as np
from numpy.typing import NDArray


def within_group_whitening(
    values: NDArray[np.floating], groups: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A mean [D] and a matrix [D, D] such that (values - mean) @ matrix has unit covariance within groups.

    values: [N, D]; groups: [N], equal numbers were mixed alike. The covariance is that of the clips about their group's
    mean, shrunk towards a multiple of the identity (Ledoit, Wolf: "A well-conditioned estimator for large-dimensional
    covariance matrices", Journal of Multivariate Analysis 88, 2004). Groups of one clip say nothing. Raises ValueError
    for values that are not finite and where no group has two clips.
    """
    from sklearn.covariance import ledoit_wolf  # a third of what `train` loads, and seldom needed

    values, groups = np.asarray(values, np.float64), np.asarray(groups)
    if not np.isfinite(values).all():
        raise ValueError("values to whiten hold NaN or infinite numbers")
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    means = np.zeros((len(counts), values.shape[1]))
    np.add.at(means, place, values)
    means /= counts[:, None]
    several = counts[place] > 1
    if not several.any():
        raise ValueError("no group has two clips")
    residuals = (values - means[place])[several]
    covariance, _ = ledoit_wolf(residuals, assume_centered=True)
    # each group's mean takes one degree of freedom
    covariance *= len(residuals) / (len(residuals) - (counts > 1).sum())
    power, axes = np.linalg.eigh(covariance)
    return values.mean(0), (axes / np.sqrt(np.maximum(power, 1e-12))) @ axes.T
