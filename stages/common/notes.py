"""Remarks on what a command does, on stderr, where they do not get among its output; each once a run."""

import sys

from mixstyle.pipeline.core.text import printable

_told: set[str] | None = None
"""The remarks of the command that runs; None where none does (in a worker process, or in somebody's own program)."""


def begin_notes() -> None:
    """A command begins: nothing has been told yet."""
    global _told
    _told = set()


def note(line: str) -> None:
    """Tells a remark, if a command runs in this process that has not told it yet."""
    if _told is not None and line not in _told:
        _told.add(line)
        print(printable(f"mixstyle: {line}"), file=sys.stderr, flush=True)
