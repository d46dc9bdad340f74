"""Commands as they are typed, run in this process with the signals of a shell, and what they leave."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mixstyle.stages import cli

INT, TERM = signal.SIGINT, signal.SIGTERM


def run(*words: str) -> int:
    """A command as it is typed; its status."""
    with pytest.MonkeyPatch.context() as patch, signals_as_in_a_shell():
        patch.setattr(sys, "argv", ["mixstyle", *words])
        try:
            cli.main()
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


@contextmanager
def signals_as_in_a_shell() -> Iterator[None]:
    """A test run in the background ignores Ctrl-C; a command in the foreground does not."""
    before = {INT: signal.signal(INT, signal.default_int_handler), TERM: signal.signal(TERM, signal.SIG_DFL)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
