"""Ctrl-C during a training."""

import signal
import threading
from types import FrameType
from typing import Any

from mixstyle.stages.common.progress import say


class CtrlC:
    """Lets the first Ctrl-C wait for the end of the step, so that what is saved is whole; a second one ends at once."""

    def __init__(self, tells: bool) -> None:
        self.pressed, self._tells = False, tells
        self._before: Any = None

    def __enter__(self) -> "CtrlC":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        if self._tells:
            say("train: stopping after this step; once more to stop at once")
