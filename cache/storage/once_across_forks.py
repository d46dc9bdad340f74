"""Something that one of several forked processes does, and none of the others."""

import os
import weakref


class Once:
    """`take` is True once: in the process that made it, or in one of those that were forked from it since."""

    def __init__(self) -> None:
        # A byte in a pipe: the system gives it to one reader alone, and its end to all others.
        self._pipe, end = os.pipe()
        os.write(end, b"1")
        os.close(end)
        weakref.finalize(self, os.close, self._pipe)

    def take(self) -> bool:
        """Whether the caller is the first."""
        return bool(os.read(self._pipe, 1))
