"""What computes rows of `features` in a process of a cluster."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mixstyle.cache.feature_store.store import FeatureStore, set_codec_threads
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.stages.features.stage import fill
from mixstyle.stages.separate.machine_kind import other_kind
from mixstyle.stages.settings.places import open_shards, place_of_features
from mixstyle.stages.settings.profile import Settings


class RowMaker:
    """`cluster.actor.Maker` of `features`: a part is a shard's number.

    options: `stems_dir`; `path` of the store, which is there; `machine`, the kind that the command was given on.
    """

    def __init__(self, settings: Settings, options: Mapping[str, Any], stack: ExitStack) -> None:
        place = place_of_features(settings, Path(options["path"]))
        self._chosen, self._device = settings.features, resolve_device(settings.features.device)
        set_codec_threads(1)
        self._cache = open_shards(settings, Path(options["stems_dir"]))
        self._shards = {shard.shard: shard for shard in self._cache.shards}
        self._store = FeatureStore.open(place, write=True)
        self._locks = stack.enter_context(ShardLocks(place.folder, "mixstyle features"))
        self.machine = other_kind(options, self._device)

    def make(self, part: int) -> dict[str, Any]:
        """`{"clips": n}`: of a shard whose rows are there afterwards, as many as were computed."""
        if not self._locks.take([part]):
            return {"elsewhere": True}
        try:
            if self._store.done[part]:
                return {"clips": 0}
            chosen, shard = self._chosen, self._shards[part]
            return {"clips": fill(self._store, self._cache, [shard], self._device, chosen.batch_clips, chosen.workers)}
        finally:
            self._locks.give_back([part])
