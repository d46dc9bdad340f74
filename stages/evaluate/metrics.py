"""What an evaluation measures, from the embeddings of its parts: numbers with 95% intervals over songs."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import confusion_matrix, f1_score, r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.pipeline.retrieval import bootstrap_groups, hits, ranks, unit
from mixstyle.stages.evaluate.models import Z_SCORED
from mixstyle.stages.evaluate.tasks import OTHER_STYLE, ROBUSTNESS, Part

Values = NDArray[np.float64]
FOLDS = 5
RIDGE = tuple(10.0**k for k in range(-2, 5))
"""Penalties of which the ridge regressions choose within the training songs."""


def comparable(embeddings: NDArray[np.float32], name: str) -> Values:
    """Unit vectors; of rows whose dimensions have units, after z-scoring them over all clips of the part."""
    values = np.asarray(embeddings, np.float64)
    if name in Z_SCORED:
        scale = values.std(0)
        values = (values - values.mean(0)) / np.where(scale > 0, scale, 1.0)
    return unit(values)


def estimate(name: str, values: NDArray[np.floating], songs: NDArray[np.integer]) -> dict[str, float]:
    """A mean and its interval, as `name`, `name_low` and `name_high`."""
    found = bootstrap_groups(values, songs)
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


def retrieval(queries: Values, pool: Values, songs: NDArray[np.integer]) -> dict[str, float]:
    """R@1, 5 and 10, mean and median rank and MRR of queries whose right answers are the pool's rows in order."""
    rank = ranks(queries, pool, np.arange(len(pool)))
    found: dict[str, float] = {}
    for k in (1, 5, 10):
        found |= estimate(f"r{k}", hits(rank, k), songs)
    return found | {
        "mean_rank": float(rank.mean()),
        "median_rank": float(np.median(rank)),
        "mrr": float((1 / rank).mean()),
        "chance_r1": 1 / len(pool),
    }


def retrieval_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, float]:
    """Retrieval of the second half of a part's clips by the first."""
    queries, pool = np.split(comparable(embeddings, name), 2)
    return retrieval(queries, pool, np.array(part.songs[: len(queries)]))


def hard_of(embeddings: NDArray[np.float32], part: Part, styles: int, name: str) -> dict[str, float]:
    """Share of queries whose nearest of `styles` candidates is the other content in their own style."""
    grid = comparable(embeddings, name).reshape(styles, -1, embeddings.shape[1])
    rng = np.random.default_rng(0)
    right, songs = [], []
    count = grid.shape[1]
    for style in range(styles):
        for song in range(count):
            other = (song + 1 + int(rng.integers(count - 1))) % count
            wrong = np.delete(grid[:, song], style, axis=0) @ grid[style, song]
            right.append(float(grid[style, other] @ grid[style, song] > wrong.max()))
            songs.append(song)
    return estimate("r1", np.array(right), np.array(songs)) | {"chance_r1": 1 / styles}


def leakage_of(embeddings: NDArray[np.float32], part: Part, styles: int, name: str) -> dict[str, float]:
    """Share of clips whose song a linear probe tells, trained on other styles of the same clips; chance is 1 in songs.

    The grid is that of `hard_of`: lower is better, where the mix is to be known apart from the song.
    """
    songs = np.array(part.songs)
    style = np.repeat(np.arange(styles), len(songs) // styles)
    found = _out_of_fold(_classifier(), comparable(embeddings, name), songs, style)
    return estimate("accuracy", found == songs, songs) | {"chance": 1 / len(np.unique(songs))}


def presets_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, Any]:
    """Which preset a clip has: by the nearest mean of other songs' clips, and by a linear probe, split by song.

    confusion: [5][5], shares of each preset's clips, by the nearest mean.
    """
    x, songs = comparable(embeddings, name), np.array(part.songs)
    label = np.repeat(np.arange(len(PRESETS)), len(songs) // len(PRESETS))
    nearest = np.empty_like(label)
    for song in np.unique(songs):
        inside = songs == song
        means = unit(np.stack([x[~inside & (label == k)].mean(0) for k in range(len(PRESETS))]))
        nearest[inside] = (x[inside] @ means.T).argmax(1)
    probe = _out_of_fold(_classifier(), x, label, songs)
    found: dict[str, Any] = {"chance": 1 / len(PRESETS)}
    for kind, told in (("nearest", nearest), ("probe", probe)):
        found |= estimate(f"{kind}_accuracy", told == label, songs)
        found[f"{kind}_f1"] = float(f1_score(label, told, average="macro"))
    found["confusion"] = confusion_matrix(label, nearest, normalize="true").tolist()
    return found


def parameters_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, dict[str, float]]:
    """How well ridge regression tells each effect's parameters, split by song: R2 and Spearman's rho, by
    `effect.parameter`; R2 is below 0 where the songs' mean would have told more."""
    x, songs = comparable(embeddings, name), np.array(part.songs)
    clips = len(songs) // len(EFFECTS)
    found = {}
    for number, (effect, spec) in enumerate(EFFECTS.items()):
        here = slice(number * clips, (number + 1) * clips)
        drawn = [remix.mix[0].parameters for _, remix in part.items[here]]
        for parameter, bounds in spec.parameters.items():
            wanted = np.array([bounds.normalised(values[parameter]) for values in drawn])
            model = make_pipeline(StandardScaler(), RidgeCV(RIDGE))
            told = _out_of_fold(model, x[here], wanted, songs[here])
            rho = float(np.asarray(spearmanr(wanted, told))[0]) if np.ptp(told) > 0 else 0.0
            found[f"{effect}.{parameter}"] = {"r2": float(r2_score(wanted, told)), "spearman": rho}
    return found


def robustness_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, dict[str, float]]:
    """For each change, the mean cosine to the clip as it is, and the share of songs for which that is more than the
    cosine to the clip in another style; the latter's mean cosine as `another style`."""
    groups = comparable(embeddings, name).reshape(len(ROBUSTNESS), -1, embeddings.shape[1])
    songs = np.arange(groups.shape[1])
    cosines = {change: (groups[0] * groups[place]).sum(1) for place, change in enumerate(ROBUSTNESS)}
    found = {}
    for change in ROBUSTNESS[1:]:
        found[change] = estimate("cosine", cosines[change], songs)
        if change != OTHER_STYLE:
            found[change] |= estimate("nearer_than_style", cosines[change] > cosines[OTHER_STYLE], songs)
    return found


def fingerprint_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, Any]:
    """Retrieval among true stems, among separated ones, and of separated by true; and the mean cosine of the two
    embeddings of one mixture."""
    x = comparable(embeddings, name)
    true_queries, true_pool, queries, pool = np.split(x, 4)
    songs = np.array(part.songs[: len(pool)])
    return {
        "true": retrieval(true_queries, true_pool, songs),
        "separated": retrieval(queries, pool, songs),
        "true_to_separated": retrieval(true_queries, pool, songs),
        **estimate("same_mix_cosine", (true_queries * queries).sum(1), songs),
    }


def _classifier() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))


def _out_of_fold(model: Pipeline, x: Values, y: NDArray[Any], groups: NDArray[np.integer]) -> NDArray[Any]:
    """Predictions for each row by a model that was trained on other groups."""
    folds = GroupKFold(min(FOLDS, len(np.unique(groups))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of constant dimensions, and of classes that a small fold has not
        return np.asarray(cross_val_predict(model, x, y, groups=groups, cv=folds))


def means(entries: Mapping[str, Mapping[str, float]], key: str) -> float:
    """The mean of one figure over named entries."""
    return float(np.mean([entry[key] for entry in entries.values()]))
