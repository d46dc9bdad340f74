"""The process that separates on one device: `python -m mixstyle.stages.separate.shard_worker` (see launcher.py), or an
actor of a cluster, which runs a `ShardMaker`."""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.stages.common.processes import end_with_parent, leave_ctrl_c_to_parent
from mixstyle.stages.separate.shard_maker import (
    RunStats,
    ShardRun,
    ShardStats,
    finished_meanwhile,
    make_shard,
    make_share,
)
from mixstyle.stages.separate.stage import COMMAND, as_mixstyle_errors, open_run
from mixstyle.stages.settings.places import place_of_stage
from mixstyle.stages.settings.profile import Settings, from_plain

Work = Callable[[Settings, int, int, Callable[[], None]], RunStats]
"""(settings, shard_index, num_shards, what to call after every track): works on a share."""


def separate_share(settings: Settings, shard_index: int, num_shards: int, advance: Callable[[], None]) -> RunStats:
    """Works on a share of `separate`."""
    folder = place_of_stage(settings, "separate").folder
    with as_mixstyle_errors(folder), ShardLocks(folder, COMMAND) as locks:
        run = open_run(settings, locks=locks)
        return make_share(run, range(shard_index, run.n_shards, num_shards), locks, advance)


class ShardMaker:
    """`cluster.actor.Maker` of `separate`: a part is a shard's number. options: none."""

    def __init__(self, settings: Settings, options: Mapping[str, Any], stack: ExitStack) -> None:
        folder = place_of_stage(settings, "separate").folder
        self._locks = stack.enter_context(ShardLocks(folder, COMMAND))
        with as_mixstyle_errors(folder):
            self._run: ShardRun[Any] = open_run(settings, locks=self._locks)

    @property
    def machine(self) -> str:
        return self._run.machine

    def make(self, part: int) -> dict[str, Any]:
        """`{"clips": n}` of a shard that is there afterwards."""
        return shard_made(self._run, self._locks, part)


def shard_made(run: ShardRun[Any], locks: ShardLocks, number: int) -> dict[str, Any]:
    """Makes a shard, unless it is done: `{"clips": n}`, or `{"elsewhere": True}` where another process is at it."""
    with as_mixstyle_errors(run.folder):
        made = finished_meanwhile(run, number)
        if made is None:
            if not locks.take([number]):
                return {"elsewhere": True}
            try:
                made = make_shard(run, number)
            finally:
                locks.give_back([number])
        return {"clips": ShardStats.of(made, run.command).clips_done}


def serve(work: Work) -> None:
    """Does the work that one line of standard input asks for, and tells of it by events on standard output."""
    leave_ctrl_c_to_parent()
    # What is printed here must not get among the events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    keep_freed_memory()
    with open(0, "rb", buffering=0, closefd=False) as requests:  # nothing held back: end_with_parent reads the rest
        request = json.loads(requests.readline())
    end_with_parent()

    def tell(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    try:
        settings = from_plain(request["settings"])
        done = work(settings, request["shard_index"], request["num_shards"], lambda: tell({"track": 1}))
        tell({"done": dataclasses.asdict(done)})
    except MixstyleError as error:
        tell({"error": error.message, "code": error.code, "remedy": error.remedy})
        raise SystemExit(1) from None


if __name__ == "__main__":
    serve(separate_share)
