"""What processes need that another process of ours started."""

import os
import threading


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
