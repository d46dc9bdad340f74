"""Ctrl-C and SIGTERM during a training."""

import signal
import threading
from types import FrameType
from typing import Any, NoReturn

from mixstyle.stages.common.progress import say


class CtrlC:
    """Lets the first Ctrl-C, and the first SIGTERM, wait for the end of the step, so that what is saved is whole; a
    second one of the same kind ends at once. pressed: the signal that came first; 0 before."""

    def __init__(self, tells: bool) -> None:
        self.pressed, self._tells = 0, tells
        self._seen: set[int] = set()
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "CtrlC":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._press) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before = {}

    def stop(self) -> NoReturn:
        """Ends the run as the signal would have done; KeyboardInterrupt where another process got it."""
        self.__exit__()
        if self.pressed:
            signal.raise_signal(self.pressed)
        raise KeyboardInterrupt

    def _press(self, number: int, frame: FrameType | None) -> None:
        # the parent of several processes sends SIGTERM on, and those at a terminal had Ctrl-C by then
        if number in self._seen:
            self.pressed = number
            self.stop()
        self._seen.add(number)
        if self._tells and not self.pressed:
            say("train: stopping after this step; once more to stop at once")
        self.pressed = self.pressed or number
