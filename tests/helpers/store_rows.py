"""Rows for a descriptor store, in a module that a test's processes import quickly."""

import numpy as np

from mixstyle.cache.feature_store.layout import ShardRows
from mixstyle.cache.feature_store.store import FeatureStore

__all__ = ["FeatureStore", "shard"]


def shard(store: FeatureStore, index: int) -> ShardRows:
    """Seeded rows of a shard; the second of each failed."""
    place = store.shard_rows(index)
    n = place.stop - place.start
    values = np.random.default_rng(index).standard_normal((n, len(store.names))).astype(np.float32)
    reason = [""] * n
    values[1], reason[1] = np.nan, "decoder: lost sync, “twice”"
    return ShardRows(values, 10.0 * np.arange(n), reason, f"{index:064x}")
