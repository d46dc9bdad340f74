"""Shards of `separate` and `remix` on a Ray cluster; the command that was given is the driver."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from mixstyle.stages.cluster.actor import request_of
from mixstyle.stages.cluster.ray_pool import RayOptions, made_on
from mixstyle.stages.separate.shard_maker import RunStats, ShardRun, finished_shard
from mixstyle.stages.settings.profile import Settings


def make_on_ray(
    options: RayOptions,
    stage: Literal["separate", "remix"],
    settings: Settings,
    run: ShardRun[Any],
    share: Sequence[int],
    advance: Callable[[], None],
) -> RunStats:
    """Makes those shards of a share that are not done. advance: called for every track of a shard that is done.

    Streams and batch are in the folder's settings by now, and every actor takes them from there, as the workers of
    `run_on_devices` do. Raises MixstyleError as `ray_pool.Pool` does.
    """
    section, done = getattr(settings, stage), RunStats()
    left = [number for number in share if finished_shard(run, number) is None]
    on_gpu = run.separator is not None and run.separator.device.type == "cuda"

    def request(device: str, threads: int) -> Mapping[str, Any]:
        chosen = replace(section, device=device, devices=(), threads=threads, streams=0, batch_chunks=0)
        return request_of(f"mixstyle.stages.{stage}.shard_worker:ShardMaker", replace(settings, **{stage: chosen}))

    start = time.perf_counter()
    for number, answer in made_on(options, stage, left, request, on_gpu=on_gpu, threads=section.threads):
        done.shards.append(number)
        done.audio_s += answer["clips"] * run.clip_s
        for _ in run.shard(number):
            advance()
    done.wall_s = max(time.perf_counter() - start, 1e-9)
    return done
