"""Whitening of features within classes: the closed form that brings out what tells classes apart.

Features x of a class c scatter around the class's mean for reasons that should not count (here: a class is an effect
chain, and the content is what varies). With the covariance of that scatter

    S = 1 / (n - C) sum over classes of (x - mean_c)(x - mean_c)^T

the map y = S^(-1/2) (x - mean) makes all directions of it alike, so that a cosine is not led by them ("within-class
covariance normalisation", Hatch, Kajarekar, Stolcke, Interspeech 2006). Features are z-scored before, and S is shrunk
towards a multiple of the identity as Ledoit and Wolf propose ("A well-conditioned estimator for large-dimensional
covariance matrices", 2004), since there may be fewer clips than dimensions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Whitening:
    """y = ((x - mean) / scale) matrix, for x `[N, D]`. Everything is of the features it was fitted on."""

    mean: Values
    scale: Values
    matrix: Values

    def __call__(self, x: NDArray[np.floating]) -> Values:
        """Features `[N, D]` whitened, `[N, D]`. Raises ValueError for another D."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise ValueError(f"features to whiten should be [N, {len(self.mean)}], not {list(x.shape)}")
        return ((np.asarray(x, np.float64) - self.mean) / self.scale) @ self.matrix


def fit_whitening(x: NDArray[np.floating], classes: NDArray[np.integer]) -> Whitening:
    """Fits the whitening on features `[N, D]` of classes `[N]`. A constant feature stays 0.

    Raises ValueError for shapes that do not fit, and where no class has two members.
    """
    x, classes = np.asarray(x, np.float64), np.asarray(classes)
    if x.ndim != 2 or classes.shape != (len(x),):
        raise ValueError("whitening needs features [N, D] and a class for each")
    _, place = np.unique(classes, return_inverse=True)
    counts = np.bincount(place)
    if counts.max(initial=0) < 2:
        raise ValueError("whitening needs a class with two members")
    mean, scale = x.mean(0), x.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    z = (x - mean) / scale
    means = np.zeros((len(counts), x.shape[1]))
    np.add.at(means, place, z)
    residuals = (z - (means / counts[:, None])[place])[counts[place] > 1]
    # n - C degrees of freedom instead of n: only a factor, which a cosine does not see, but the formula's
    freedom = len(residuals) - int((counts > 1).sum())
    scatter = shrunk_covariance(residuals) * len(residuals) / freedom
    values, vectors = np.linalg.eigh(scatter)
    root = np.where(values > 0, 1 / np.sqrt(np.maximum(values, np.finfo(np.float64).tiny)), 0.0)
    return Whitening(mean, scale, (vectors * root) @ vectors.T)


def shrunk_covariance(x: Values) -> Values:
    """The covariance `[D, D]` of `[N, D]` of mean 0, shrunk towards a multiple of the identity by Ledoit and Wolf's
    closed form: their lemma 3.2 to 3.4, with norms divided by D."""
    n, d = x.shape
    sample = x.T @ x / n
    level = np.trace(sample) / d
    distance = np.square(sample - level * np.eye(d)).sum() / d
    # sum over rows of |x x^T - S|^2 = sum of |x|^4 - N |S|^2
    noise = (np.square(np.square(x).sum(1)).sum() - n * np.square(sample).sum()) / n**2 / d
    share = min(max(noise, 0.0), distance) / distance if distance > 0 else 0.0
    return (1 - share) * sample + share * level * np.eye(d)
