"""What the report knows before it draws or writes anything: retrieval, losses, and the metrics made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.retrieval import Estimate, bootstrap, chance, hits, ranks
from mixstyle.stages.report.embeddings import Embeddings
from mixstyle.stages.report.figures import LossRow
from mixstyle.stages.settings.profile import Settings

TOP = (1, 5)
BOOTSTRAP_SEED = 0
COLOURED_ALL = 20
"""Up to so many songs on the map have a colour each."""
ROWS = {"trained": "trained encoder", "raw": "raw descriptors", "untrained": "untrained encoder"}
"""What is compared, by its name in `Embeddings` and metrics.json, and what people call it."""


@dataclass(frozen=True)
class Retrieval:
    """Song retrieval of one set of queries. top[row][k]: an estimate; gain[k]: trained minus raw, in the same way."""

    queries: int
    pool: int
    top: dict[str, dict[int, Estimate]]
    gain: dict[int, Estimate]
    median_rank: dict[str, float]


@dataclass(frozen=True)
class Report:
    """All that the page tells of."""

    settings: Settings
    cache: StemCache
    store: FeatureStore
    loaded: LoadedEncoder
    checkpoint: Path
    device: torch.device
    split: str
    """Name of the tracks that are reported: held-out, all, train, validation or test."""
    known: bool
    """Whether the encoder was trained on these very stems."""
    tracks: list[CachedTrack]
    """Those that were embedded."""
    retrieval: dict[str, Retrieval]
    """By the name of the queries; the reported ones first."""
    loss: list[LossRow]

    @property
    def main(self) -> Retrieval:
        """Retrieval of the reported tracks."""
        return self.retrieval[self.split]


def retrieve(tracks: Sequence[CachedTrack], embeddings: Embeddings, asked: Sequence[int]) -> Retrieval:
    """Finds the first clip of each asked track by its last one among the first clips of all tracks.

    embeddings: of all clips of the tracks, in order.
    """
    counts = np.array([len(track.clips) for track in tracks], dtype=np.int64)
    last = counts.cumsum() - 1
    first = last + 1 - counts
    target = np.asarray(asked, dtype=np.int64)
    found = {}
    for row in ROWS:
        values: NDArray[np.float32] = getattr(embeddings, row)
        found[row] = ranks(values[last[target]], values[first], target)
    top = {row: {k: bootstrap(hits(found[row], k), BOOTSTRAP_SEED) for k in TOP} for row in ROWS}
    gain = {k: bootstrap(hits(found["trained"], k) - hits(found["raw"], k), BOOTSTRAP_SEED) for k in TOP}
    median = {row: float(np.median(values)) for row, values in found.items()}
    return Retrieval(len(target), len(tracks), top, gain, median)


def bundled(rows: Sequence[dict[str, str]], most: int) -> list[LossRow]:
    """Rows of the training's loss.csv, each the mean over so many steps that at most `most` are left.

    The step is the last one of a bundle; a validation loss is the bundle's last.
    """
    size = max(1, -(-len(rows) // most))
    made = []
    for start in range(0, len(rows), size):
        bundle = rows[start : start + size]
        held = [float(row["validation_loss"]) for row in bundle if row.get("validation_loss")]
        train = float(np.mean([float(row["train_loss"]) for row in bundle]))
        made.append(LossRow(int(bundle[-1]["step"]), train, held[-1] if held else float("nan")))
    return made


def by_validation(rows: Sequence[LossRow]) -> list[LossRow]:
    """A row for each validation, with the mean training loss since the one before: a plot of both has no gaps.

    Rows after the last validation are left out; without any validation all rows stay.
    """
    made: list[LossRow] = []
    since: list[float] = []
    for row in rows:
        since.append(row.train_loss)
        if np.isfinite(row.validation_loss):
            made.append(LossRow(row.step, float(np.mean(since)), row.validation_loss))
            since = []
    return made or list(rows)


def metrics_of(result: Report) -> dict[str, Any]:
    """What metrics.json holds: numbers that a change of data, settings or code may move, and nothing else."""
    main = result.main

    def number(value: float) -> float:
        return round(value, 6)

    def estimates(values: dict[int, Estimate]) -> dict[str, float]:
        named = {}
        for k, estimate in values.items():
            named[f"top{k}"] = number(estimate.value)
            named[f"top{k}_low"], named[f"top{k}_high"] = number(estimate.low), number(estimate.high)
        return named

    retrieval: dict[str, Any] = {"split": result.split, "queries": main.queries, "pool": main.pool}
    for row in ROWS:
        retrieval[row] = {**estimates(main.top[row]), "median_rank": number(main.median_rank[row])}
    retrieval["trained_minus_raw"] = estimates(main.gain)
    retrieval["chance"] = {f"top{k}": number(chance(k, main.pool)) for k in TOP}
    cache = result.cache
    training: dict[str, Any] = {"step": result.loaded.step, "epoch": result.loaded.epoch}
    if result.loss:
        training["last_step"] = result.loss[-1].step
    held = [row.validation_loss for row in result.loss if np.isfinite(row.validation_loss)]
    if held:
        training["best_validation_loss"] = number(min(held))
    return {
        "data": {
            "tracks": len(cache.tracks),
            "tracks_failed": cache.n_tracks - len(cache.tracks),
            "clips": sum(len(track.clips) for track in cache.tracks),
        },
        "training": training,
        "retrieval": retrieval,
    }
