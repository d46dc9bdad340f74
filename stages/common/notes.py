"""Remarks on what a command does, on stderr, where they do not get among its output; each once a run."""

import sys

from mixstyle.pipeline.core.text import printable

_told: set[str] | None = None
"""The remarks of the command that runs; None where none does (in a worker process, or in somebody's own program)."""


def begin_notes() -> None:
    """A command begins: nothing has been told yet."""
    global _told
    _told = set()


def first_time(line: str) -> bool:
    """Stores a line; True if the command of this process had not stored it before, or if no command runs."""
    first = _told is None or line not in _told
    if _told is not None:
        _told.add(line)
    return first


def note(line: str) -> None:
    """Tells a remark, if a command runs in this process that has not told it yet."""
    if _told is not None and first_time(line):
        print(printable(f"mixstyle: {line}"), file=sys.stderr, flush=True)
