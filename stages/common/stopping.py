"""How a command ends that is asked to: by Ctrl-C (SIGINT), or by SIGTERM, which batch systems and containers send.

Both unwind it as an exception does, so that temporary files are removed and the processes that it started end. Then it
says one line and ends with 128 plus the signal's number: 130 and 143 (`Stopping`). Work that has to come to the end of
a step first holds the signal back until then (`StoppingAfterStep`).
"""

import signal
import sys
import threading
from collections.abc import Callable, Iterable
from types import FrameType, TracebackType
from typing import Any, NoReturn

LINE = "mixstyle: stopped"
AGAIN = f"{LINE}; to continue, run the same command again"
"""Of commands that keep what they have made so far; others begin again."""
_BEFORE: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What Python does about each. Where it is told otherwise (a script's background jobs ignore Ctrl-C), that stays."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. What looks after Ctrl-C looks after it too."""


def _take(numbers: Iterable[int], handler: Callable[[int, FrameType | None], None]) -> dict[int, Any]:
    """Has a function called for these signals; what was there before. Nothing outside of the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.signal(number, handler) for number in numbers}


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


class Stopping:
    """A context manager around a command. goes_on: whether the same command goes on where this one was stopped.
    number: of the signal that came first; 0 before."""

    def __init__(self, goes_on: bool = False) -> None:
        self.number, self._goes_on = 0, goes_on
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Stopping":
        self._before = _take((n for n, before in _BEFORE.items() if signal.getsignal(n) is before), self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _give_back(self._before)
        status = error.code if isinstance(error, SystemExit) else None
        if isinstance(error, KeyboardInterrupt) or status == 128 + signal.SIGINT:  # which Typer makes of Ctrl-C
            self.number = self.number or signal.SIGINT
        if not self.number or error is None or (isinstance(error, SystemExit) and not status):
            return  # it ended well: some commands end by Ctrl-C
        if self._before:  # the interpreter's own end waits for threads: who asks again is not told where it was
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(AGAIN if self._goes_on else LINE, file=sys.stderr)
        raise SystemExit(128 + self.number) from None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


class StoppingAfterStep:
    """A context manager around steps, within a command: the first Ctrl-C, and the first SIGTERM, wait for the end of
    the step, so that what is saved is whole; a second one of the same kind ends at once.

    tell: is called at the first one. asked: its number; 0 before.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self.asked, self._tell = 0, tell
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StoppingAfterStep":
        self._before = _take(_BEFORE, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        _give_back(self._before)
        self._before = {}

    def stop(self) -> NoReturn:
        """Ends the run as the signal would have done; KeyboardInterrupt where another process got it."""
        self.__exit__()
        if self.asked:
            signal.raise_signal(self.asked)
        raise KeyboardInterrupt

    def _ask(self, number: int, frame: FrameType | None) -> None:
        # the parent of several processes sends SIGTERM on, and those at a terminal had Ctrl-C by then
        if number in self._seen:
            self.asked = number
            self.stop()
        self._seen.add(number)
        if not self.asked:
            self._tell()
        self.asked = self.asked or number
