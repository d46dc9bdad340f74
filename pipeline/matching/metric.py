"""How far apart two mixes are by their descriptors, weighed by how little each differs between clips mixed alike."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST_DEVIATIONS = 10.0
"""No descriptor counts as farther apart: floors of silent bands are beyond."""


class DescriptorMetric:
    """A Mahalanobis distance of some descriptors.

    scale: of each descriptor, its robust standard deviation [D]. whitening: [D, D], such that descriptors in those
    deviations, times it, have unit covariance within chains (`descriptors.whitening`); the identity where not known. Of
    some of the descriptors their own covariance counts, whatever the others do.
    """

    def __init__(self, scale: NDArray[np.floating], whitening: NDArray[np.floating] | None = None) -> None:
        self._scale = np.maximum(np.asarray(scale, np.float64), 1e-6)
        white = np.eye(len(self._scale)) if whitening is None else np.asarray(whitening, np.float64)
        self._covariance = np.linalg.inv(white @ white.T)
        self._precisions: dict[tuple[int, ...], Floats] = {}

    def distances(self, values: NDArray[np.floating], wanted: NDArray[np.floating], columns: Sequence[int]) -> Floats:
        """Of values [N, C] to others [C], of the descriptors named by columns [C], in deviations: [N].

        Root mean square where the descriptors are independent. 0 where there are none.
        """
        if not len(columns):
            return np.zeros(len(values))
        apart = (np.asarray(values, np.float64) - wanted) / self._scale[list(columns)]
        apart = np.clip(apart, -MOST_DEVIATIONS, MOST_DEVIATIONS)
        squares = np.einsum("nc,cd,nd->n", apart, self._precision(tuple(columns)), apart)
        return np.sqrt(np.maximum(squares, 0.0) / len(columns))

    def _precision(self, columns: tuple[int, ...]) -> Floats:
        if columns not in self._precisions:
            self._precisions[columns] = np.linalg.inv(self._covariance[np.ix_(columns, columns)]).astype(np.float64)
        return self._precisions[columns]
