"""What processes need that another process of ours started, and how they are started."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context

from mixstyle.stages.common.notes import note

SHARED_MEMORY = "/dev/shm"
"""Where Linux keeps shared memory, as a file system of its own."""


def end_with_parent() -> None:
    """Ends this process as soon as its standard input ends: when the parent that holds the other end has ended.

    However the parent ended, a kill included, no process of it is left behind. What standard input still holds is
    read and dropped, so a request has to be read from it before.
    """
    threading.Thread(target=_wait_and_end, daemon=True).start()


def _wait_and_end() -> None:
    # not sys.stdin: its lock, held by this thread, would abort the interpreter's own end
    while os.read(0, 1024):
        pass
    os._exit(1)


def leave_ctrl_c_to_parent(*_: object) -> None:
    """Ignores Ctrl-C, which a terminal sends to all of a command's processes: the parent ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def started_deaf_to_ctrl_c() -> Iterator[None]:
    """Has processes that are started inside ignore Ctrl-C from their first moment, which is before any line of theirs.

    In the main thread; this process ignores it for as long.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def processes_here(processes: int) -> int:
    """So many processes, or 0 where they cannot share locks, so that this process has to do their work.

    Linux keeps locks in shared memory too, which may be full, read-only or not there.
    """
    if not processes:
        return 0
    try:
        context = get_context("fork")
        event, queues = context.Event(), [context.Queue() for _ in range(processes + 1)]  # what a DataLoader makes
    except (OSError, ImportError) as error:
        note(
            f"note: {SHARED_MEMORY} takes no locks ({getattr(error, 'strerror', None) or error}): all is done in one "
            "process, which takes longer; free it, or give a container more by --shm-size or --ipc=host"
        )
        return 0
    for queue in queues:
        queue.close()
    del event
    return processes
