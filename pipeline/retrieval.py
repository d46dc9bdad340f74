"""Retrieval by cosine similarity: of one right answer, or of all that share a group; and how sure one can be of it.

Queries and pool are embeddings `[N, E]` and `[P, E]`; `target[i]` is the one entry of the pool that belongs to
query i. The rank of a query is 1 plus the number of other entries that are at least as similar (a tie counts
against the query, so that a constant embedding scores nothing). Intervals are percentile bootstraps over the
queries' tracks (Efron, Tibshirani: An Introduction to the Bootstrap, 1993, section 13.3).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_DRAWS = 2000
"""Resamples of the tracks behind every interval."""

TIE = 1e-12
"""Cosines closer than this count as equal: equal embeddings differ by the rounding of float64 products only."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval."""

    value: float
    low: float
    high: float


def unit(embeddings: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rows of `[N, E]` scaled to length 1 in float64; a row of zeros stays zero (its cosine to all is 0)."""
    x = np.asarray(embeddings, dtype=np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1.0)


def ranks(queries: NDArray[np.floating], pool: NDArray[np.floating], target: NDArray[np.integer]) -> NDArray[np.int64]:
    """Rank (1 is best) of `pool[target[i]]` among `pool [P, E]` by cosine to `queries[i]`, `[N]`.

    Raises ValueError where shapes do not fit.
    """
    target = np.asarray(target)
    if queries.ndim != 2 or pool.ndim != 2 or queries.shape[1] != pool.shape[1]:
        raise ValueError(f"queries {queries.shape} and pool {pool.shape} should be [N, E] and [P, E]")
    if target.shape != (len(queries),) or (target.size and not 0 <= target.min() <= target.max() < len(pool)):
        raise ValueError(f"target should name an entry of the pool for each of {len(queries)} queries")
    pool_unit, found = unit(pool), np.empty(len(queries), dtype=np.int64)
    # Blocks of queries: 20,000 x 20,000 similarities at once would take 3.2 GB.
    for start in range(0, len(queries), 1024):
        similarity = unit(queries[start : start + 1024]) @ pool_unit.T
        own = np.take_along_axis(similarity, target[start : start + 1024, None], axis=1)
        found[start : start + 1024] = (similarity >= own - TIE).sum(axis=1)  # counts the right entry itself
    return found


def hits(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1.0 where the right entry is among the first k, else 0.0."""
    return (np.asarray(ranks) <= k).astype(np.float64)


def chance(k: int, pool: int) -> float:
    """Expected hits@k of a ranking at random in a pool of that size: min(k, pool) / pool."""
    return min(k, pool) / pool


@dataclass(frozen=True)
class GroupRetrieval:
    """Retrieval of a query's group among all other entries, a value for each query `[Q]`.

    query: its place among the entries. top1: whether the nearest entry is of the group. precision5: the share of the
    first 5 that are, of as many as there can be where a group has fewer others. average_precision: the mean, over the
    group's entries, of the precision at each one's place (Manning, Raghavan, Schuetze: Introduction to Information
    Retrieval, 2008, section 8.4); their mean over queries is MAP. The *_chance are what an order at random gives.
    """

    query: NDArray[np.int64]
    top1: NDArray[np.float64]
    precision5: NDArray[np.float64]
    average_precision: NDArray[np.float64]
    top1_chance: NDArray[np.float64]
    precision5_chance: NDArray[np.float64]
    average_precision_chance: NDArray[np.float64]


def group_retrieval(embeddings: NDArray[np.floating], groups: NDArray[np.integer]) -> GroupRetrieval:
    """Each entry `[N, E]` whose group `[N]` has others asks for these among all entries but itself, by cosine.

    A tie counts against the query. Raises ValueError for shapes that differ and where no group has two entries.
    """
    groups = np.asarray(groups)
    if embeddings.ndim != 2 or groups.shape != (len(embeddings),):
        raise ValueError("group_retrieval needs embeddings [N, E] and a group for each")
    x = unit(embeddings)
    _, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    queries = np.flatnonzero(counts[place] > 1)
    if not len(queries):
        raise ValueError("group_retrieval needs a group with two entries")
    others = len(x) - 1
    found = np.empty((6, len(queries)))
    for column, query in enumerate(queries):
        keep = np.arange(len(x)) != query
        right, similarity = place[keep] == place[query], x[keep] @ x[query]
        # similarities within TIE are one step, and of those the wrong answers come first
        order = np.lexsort((right, -np.round(similarity / TIE)))
        right = right[order]
        relevant, places = int(right.sum()), np.flatnonzero(right) + 1
        first = min(5, relevant)
        found[:3, column] = right[0], right[:first].mean(), (np.arange(1, relevant + 1) / places).mean()
        found[3:, column] = relevant / others, relevant / others, expected_average_precision(relevant, others)
    return GroupRetrieval(queries, *found)


def expected_average_precision(relevant: int, entries: int) -> float:
    """The mean average precision of all orders of `entries` of which `relevant` are right.

    With r of n right, E[AP] = (H + (r - 1) (n - H) / (n - 1)) / n, H = 1 + 1/2 + ... + 1/n: the entry at place k is
    right with probability r / n, and then 1 + (k - 1)(r - 1) / (n - 1) of the first k are, on average.

    >>> expected_average_precision(1, 2)
    0.75
    """
    harmonic = float((1 / np.arange(1, entries + 1)).sum())
    return (harmonic + (relevant - 1) * (entries - harmonic) / max(entries - 1, 1)) / entries


def bootstrap(values: NDArray[np.floating], seed: int = 0, draws: int = BOOTSTRAP_DRAWS) -> Estimate:
    """Mean of one value a track, `[N]`, with the 2.5th and 97.5th percentile of the resampled means.

    Same values and seed, same interval. Raises ValueError for no values.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError("bootstrap needs one value for each of at least one track")
    rng = np.random.default_rng(seed)
    means = np.array([values[rng.integers(0, len(values), len(values))].mean() for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def bootstrap_groups(
    values: NDArray[np.floating], groups: NDArray[np.integer], seed: int = 0, draws: int = BOOTSTRAP_DRAWS
) -> Estimate:
    """Mean of values `[N]` with an interval from resampling whole groups `[N]` (songs): values of one depend.

    Same values, groups and seed, same interval. Raises ValueError for no values and for shapes that differ.
    """
    values, groups = np.asarray(values, dtype=np.float64), np.asarray(groups)
    if values.ndim != 1 or not len(values) or values.shape != groups.shape:
        raise ValueError("bootstrap_groups needs a value and a group for each of at least one entry")
    _, place = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(place, values), np.bincount(place)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, len(sums), (draws, len(sums)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(float(values.mean()), float(low), float(high))


def principal_components(points: NDArray[np.floating], n: int = 2) -> tuple[NDArray[np.float64], list[float]]:
    """The first n principal components of `[N, E]`: coordinates `[N, n]` and each one's share of the variance.

    Signs are fixed (the largest loading of an axis is positive), so equal points give an equal picture. Axes
    that the points do not have (fewer points or dimensions than n) are zeros with a share of 0.
    """
    centred = np.asarray(points, dtype=np.float64)
    centred = centred - centred.mean(axis=0, keepdims=True)
    left, singular, right = np.linalg.svd(centred, full_matrices=False)
    sign = np.sign(np.take_along_axis(right, np.abs(right).argmax(axis=1)[:, None], axis=1))[:, 0]
    coordinates = np.zeros((len(centred), n))
    kept = min(n, len(singular))
    coordinates[:, :kept] = (left * singular * np.where(sign == 0, 1.0, sign))[:, :kept]
    total = float((singular**2).sum())
    share = [float(s**2) / total if total > 0 else 0.0 for s in singular[:kept]]
    return coordinates, share + [0.0] * (n - kept)
