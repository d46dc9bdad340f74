"""Rows of `features` on a Ray cluster; the command that was given is the driver."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from mixstyle.cache.feature_store.place import MACHINES
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.shards import ShardInfo
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.stages.cluster.actor import request_of
from mixstyle.stages.cluster.mixed import note_mixed_at
from mixstyle.stages.cluster.ray_pool import RayOptions, made_on
from mixstyle.stages.common.progress import progress
from mixstyle.stages.separate.machine_kind import machine_kind
from mixstyle.stages.separate.provenance import MACHINE
from mixstyle.stages.settings.profile import Settings


def fill_on_ray(
    options: RayOptions,
    settings: Settings,
    store: FeatureStore,
    cache: StemCache,
    todo: Sequence[ShardInfo],
    at: torch.device,
) -> tuple[list[ShardInfo], int]:
    """Has a cluster compute and write shards: those that it did, and how many clips that were.

    at: the device that actors compute on, or one of its kind. An actor has as many threads as it has CPUs of its
    machine, `features.workers` of them where that is less.
    """
    if not todo:
        return [], 0
    chosen = settings.features

    def request(device: str, workers: int) -> Mapping[str, Any]:
        own = replace(chosen, device=device, workers=workers)
        made = {"stems_dir": cache.name, "path": store.name, MACHINE: machine_kind(at)}
        return request_of("mixstyle.stages.features.row_maker:RowMaker", replace(settings, features=own), made)

    by_number, done, clips = {shard.shard: shard for shard in todo}, [], 0
    made = made_on(options, "features", list(by_number), request, on_gpu=at.type == "cuda", threads=chosen.workers)
    with progress("features", len(todo), "shards") as bar:
        for number, answer in made:
            note_mixed_at(store.place, MACHINES, {f"{number:06d}": answer[MACHINE]} if MACHINE in answer else {})
            done.append(by_number[number])
            clips += answer["clips"]
            bar.advance()
    return done, clips
