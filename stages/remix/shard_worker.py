"""The process that fills a bank on one device, `python -m mixstyle.stages.remix.shard_worker`; as `separate`'s."""

from collections.abc import Callable

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.stages.remix.stage import COMMAND, open_run
from mixstyle.stages.separate.shard_maker import RunStats, make_share
from mixstyle.stages.separate.shard_worker import serve
from mixstyle.stages.separate.stage import as_mixstyle_errors
from mixstyle.stages.settings.profile import Settings


def remix_share(settings: Settings, shard_index: int, num_shards: int, advance: Callable[[], None]) -> RunStats:
    """Works on a share of `remix`."""
    folder = settings.remix.remix_dir
    with as_mixstyle_errors(folder), ShardLocks(folder, COMMAND) as locks:
        run = open_run(settings, locks)
        return make_share(run, range(shard_index, run.n_shards, num_shards), locks, advance)


if __name__ == "__main__":
    serve(remix_share)
