"""How a command ends that is asked to: by Ctrl-C (SIGINT), or by SIGTERM, which batch systems and containers send.

Both unwind it as an exception does, so that temporary files are removed and the processes that it started end. Then it
says one line and ends with 128 plus the signal's number: 130 and 143.
"""

import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

LINE = "mixstyle: stopped; the same command goes on from what is finished"
_BEFORE: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
"""What Python does about each. Where it is told otherwise (a script's background jobs ignore Ctrl-C), that stays."""


class Terminated(KeyboardInterrupt):
    """SIGTERM. What looks after Ctrl-C looks after it too."""


class Stopping:
    """A context manager around a command. number: of the signal that came first; 0 before."""

    def __init__(self) -> None:
        self.number = 0
        self._taken: list[int] = []

    def __enter__(self) -> "Stopping":
        if threading.current_thread() is threading.main_thread():
            self._taken = [number for number, before in _BEFORE.items() if signal.getsignal(number) is before]
            for number in self._taken:
                signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in self._taken:
            signal.signal(number, _BEFORE[number])
        status = error.code if isinstance(error, SystemExit) else None
        if isinstance(error, KeyboardInterrupt) or status == 128 + signal.SIGINT:  # which Typer makes of Ctrl-C
            self.number = self.number or signal.SIGINT
        if not self.number or error is None or (isinstance(error, SystemExit) and not status):
            return  # it ended well: some commands end by Ctrl-C
        if self._taken:  # the interpreter's own end waits for threads: who asks again is not told where it stood
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        print(LINE, file=sys.stderr)
        raise SystemExit(128 + self.number) from None

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.number = self.number or number
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt
