"""How a share of `separate` or `remix` is made: here, by a process on each of several devices, or on a Ray cluster."""

from collections.abc import Callable
from typing import Any, Literal

import torch

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.separate.launcher import run_on_devices
from mixstyle.stages.separate.on_ray import make_on_ray
from mixstyle.stages.separate.shard_maker import RunStats, ShardRun, make_share
from mixstyle.stages.settings.profile import Settings

ShareRunner = Callable[[Callable[[], None]], list[RunStats]]
"""Makes a share, and calls what it is given for every track."""


def share_runner(
    settings: Settings,
    stage: Literal["separate", "remix"],
    run: ShardRun[Any],
    share: range,
    locks: ShardLocks,
    ray: RayOptions | None,
) -> ShareRunner:
    """What makes a share as the settings and --ray ask. share: every n-th shard of the run, from a first one on."""

    def make(advance: Callable[[], None]) -> list[RunStats]:
        if ray is None and len(getattr(settings, stage).devices) < 2:
            return [make_share(run, share, locks, advance)]
        _free_separators(run)
        if ray is not None:
            return [make_on_ray(ray, stage, settings, run, share, advance)]
        return run_on_devices(settings, stage, share.start, share.step, advance)

    return make


def _free_separators(run: ShardRun[Any]) -> None:
    """Takes a run's separators off their device: its memory is for the worker there."""
    for separator in run.separators:
        separator.network.to("cpu")
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
