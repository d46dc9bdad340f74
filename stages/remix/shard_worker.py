"""The process that fills a bank on one device, `python -m mixstyle.stages.remix.shard_worker`; as `separate`'s."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.stages.remix.stage import COMMAND, open_run
from mixstyle.stages.separate.shard_maker import RunStats, make_share
from mixstyle.stages.separate.shard_worker import serve, shard_made
from mixstyle.stages.separate.stage import as_mixstyle_errors
from mixstyle.stages.settings.places import place_of_stage
from mixstyle.stages.settings.profile import Settings


def remix_share(settings: Settings, shard_index: int, num_shards: int, advance: Callable[[], None]) -> RunStats:
    """Works on a share of `remix`."""
    folder = place_of_stage(settings, "remix").folder
    with as_mixstyle_errors(folder), ShardLocks(folder, COMMAND) as locks:
        run = open_run(settings, locks)
        return make_share(run, range(shard_index, run.n_shards, num_shards), locks, advance)


class ShardMaker:
    """`cluster.actor.Maker` of `remix`: a part is a shard's number. options: none."""

    def __init__(self, settings: Settings, options: Mapping[str, Any], stack: ExitStack) -> None:
        folder = place_of_stage(settings, "remix").folder
        self._locks = stack.enter_context(ShardLocks(folder, COMMAND))
        with as_mixstyle_errors(folder):
            self._run = open_run(settings, self._locks)

    @property
    def machine(self) -> str:
        return self._run.machine

    def make(self, part: int) -> dict[str, Any]:
        """`{"clips": n}` of a shard that is there afterwards."""
        return shard_made(self._run, self._locks, part)


if __name__ == "__main__":
    serve(remix_share)
