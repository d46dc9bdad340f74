"""The process that separates on one device, `python -m mixstyle.stages.separate.shard_worker`; see launcher.py."""

import dataclasses
import json
import os
import signal
from typing import Any, TextIO

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.stages.common.processes import end_with_parent
from mixstyle.stages.separate.shard_maker import RunStats, make_share
from mixstyle.stages.separate.stage import COMMAND, as_mixstyle_errors, open_run
from mixstyle.stages.settings.profile import from_plain


def answer(request: dict[str, Any], events: TextIO) -> RunStats:
    """Works on the share that the request names."""

    def tell(event: dict[str, Any]) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    settings = from_plain(request["settings"])
    folder = settings.separate.stems_dir
    with as_mixstyle_errors(folder), ShardLocks(folder, COMMAND) as locks:
        run = open_run(settings, locks=locks)
        share = range(request["shard_index"], run.n_shards, request["num_shards"])
        done = make_share(run, share, locks, lambda: tell({"track": 1}))
    tell({"done": dataclasses.asdict(done)})
    return done


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the parent, which ends us
    # What is printed here must not get among the events.
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    keep_freed_memory()
    with open(0, "rb", buffering=0, closefd=False) as requests:  # nothing held back: end_with_parent reads the rest
        request = json.loads(requests.readline())
    end_with_parent()
    try:
        answer(request, events)
    except MixstyleError as error:
        events.write(json.dumps({"error": error.message, "code": error.code, "remedy": error.remedy}) + "\n")
        events.flush()
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
