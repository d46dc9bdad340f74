"""Measures that tasks share: unit vectors, retrieval and linear probes, each mean with a 95% interval over songs."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.retrieval import bootstrap_groups, hits, ranks, unit
from mixstyle.stages.presentation.estimates import FEW_SONGS

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Values = NDArray[np.float64]
FOLDS = 5
DESCRIPTORS, MFCC = "raw descriptors", "MFCC statistics"
WHITENED = "whitened descriptors"
Z_SCORED = (DESCRIPTORS, MFCC)
"""Rows whose dimensions have units: they are z-scored over the part's clips before cosines are taken."""
CENTRED = (WHITENED,)
"""Rows whose dimensions are alike already: the mean over the part's clips is taken from them, as z-scoring does."""
SMALL_POOL = 100
"""Chains in a pool that is small enough for figures to be compared where there are few songs."""


def comparable(embeddings: NDArray[np.float32], row: str) -> Values:
    """Unit vectors; of baselines, after z-scoring or centring them over all clips of the part."""
    values = np.asarray(embeddings, np.float64)
    if row in Z_SCORED:
        scale = values.std(0)
        values = (values - values.mean(0)) / np.where(scale > 0, scale, 1.0)
    elif row in CENTRED:
        values = values - values.mean(0)
    return unit(values)


def estimate(name: str, values: NDArray[np.floating], songs: NDArray[np.integer]) -> dict[str, float]:
    """A mean and its interval, as `name`, `name_low` and `name_high`; songs are what is resampled. Fewer than
    `FEW_SONGS` of them cannot be resampled in enough ways: the interval then has no width, and is not printed."""
    if len(np.unique(songs)) < FEW_SONGS:
        mean = float(np.mean(values))
        return {name: mean, f"{name}_low": mean, f"{name}_high": mean}
    found = bootstrap_groups(values, songs)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def retrieval(queries: Values, pool: Values, songs: NDArray[np.integer]) -> dict[str, float]:
    """R@1, 5 and 10, mean and median rank and MRR of queries whose right answers are the pool's rows in order.

    songs: each query's. r1_small_pool: R@1 in pools of `SMALL_POOL` of the same chains, where there are more.
    """
    rank = ranks(queries, pool, np.arange(len(pool)))
    found: dict[str, float] = {}
    for k in (1, 5, 10):
        found |= estimate(f"r{k}", hits(rank, k), songs)
    if len(pool) > SMALL_POOL:
        found |= estimate("r1_small_pool", _in_small_pools(queries, pool), songs[: _whole_pools(len(pool))])
    return found | {
        "mean_rank": float(rank.mean()),
        "median_rank": float(np.median(rank)),
        "mrr": float((1 / rank).mean()),
        "chance_r1": 1 / len(pool),
    }


def _whole_pools(entries: int) -> int:
    return entries // SMALL_POOL * SMALL_POOL


def _in_small_pools(queries: Values, pool: Values) -> Values:
    """Whether each query finds its answer among `SMALL_POOL` entries in a row, for as many as fill such pools."""
    starts = range(0, _whole_pools(len(pool)), SMALL_POOL)
    found = [
        hits(ranks(queries[i : i + SMALL_POOL], pool[i : i + SMALL_POOL], np.arange(SMALL_POOL)), 1) for i in starts
    ]
    return np.concatenate(found)


def song_embeddings(clips: Values, songs: NDArray[np.integer]) -> Values:
    """The songs' embeddings [songs, E] from their clips' [clips, E], as `index` makes them; songs ascending."""
    # imported where it is needed: `status` reads the tasks' versions alone, and torch takes a second to import
    import torch

    from mixstyle.pipeline.encoder.embed_clips import song_embedding

    each = (torch.from_numpy(clips[songs == song]) for song in np.unique(songs))
    return np.stack([song_embedding(own)[0].numpy() for own in each])


def retrieval_of_halves(
    embeddings: NDArray[np.float32], songs: tuple[int, ...], row: str, clips: int = 1
) -> dict[str, float]:
    """Retrieval of the second half of a part's clips by the first.

    clips: so many in a row are one entry, whose embedding is the mean of their unit vectors.
    """
    values = comparable(embeddings, row)
    values = song_embeddings(values, np.arange(len(values)) // clips)
    queries, pool = np.split(values, 2)
    return retrieval(queries, pool, np.array(songs[::clips][: len(queries)]))


def classifier() -> "Pipeline":
    """A linear probe: logistic regression on standardised dimensions."""
    # imported where it is needed: `status` reads the tasks' versions alone, and these take seconds to import
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def out_of_fold(model: "Pipeline", x: Values, y: NDArray[Any], groups: NDArray[np.integer]) -> NDArray[Any]:
    """Predictions for each row by a model that was trained on other groups."""
    from sklearn.model_selection import GroupKFold, cross_val_predict

    folds = GroupKFold(min(FOLDS, len(np.unique(groups))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant dimensions, and of classes that a small fold has not
        return np.asarray(cross_val_predict(model, x, y, groups=groups, cv=folds))


def mean_of(entries: Mapping[str, Mapping[str, float]], key: str) -> float:
    """The mean of one figure over named entries."""
    return float(np.mean([entry[key] for entry in entries.values()]))
