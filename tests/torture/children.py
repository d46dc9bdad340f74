"""Work done in a process of its own, so that the one that commands are forked from stays without threads."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

SAFE = "jemalloc_bg_thd"
"""A thread of pyarrow's allocator, which knows of forks."""


def in_child(work: Callable[[], Any], file: Path) -> Any:
    """What a function gives, as JSON; what it raised, as a string."""
    pid = os.fork()
    if pid == 0:
        try:
            file.write_text(json.dumps(work()))
        except BaseException as error:  # noqa: BLE001 (told by the parent)
            file.write_text(json.dumps(f"{type(error).__name__}: {error}"))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    found = json.loads(file.read_text())
    file.unlink()
    return found


def threads_here() -> list[str]:
    """Names of this process's threads beside the first, and beside those that a fork does not harm."""
    threads = [task for task in Path("/proc/self/task").iterdir() if int(task.name) != os.getpid()]
    return [name for task in threads if (name := (task / "comm").read_text().strip()) != SAFE]
