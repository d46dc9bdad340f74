"""Progress of long work: a rich bar with rate and ETA on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines where there is no terminal (logs, DVC, CI)."""


def say(line: str) -> None:
    """Prints one plain line at once, so that logs show it when it happens."""
    print(line, flush=True)


class _Rate(ProgressColumn):
    """Units a second, as the task's field `unit` names them."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        return Text(f"{speed:.2f} {unit}/s" if speed else f"- {unit}/s")


class Bar:
    """What `progress` hands out: `advance` counts, `note` shows a short remark beside the bar."""

    def __init__(self, description: str, total: int, unit: str, done: int, shown: bool = True) -> None:
        self.description, self.total, self.unit = description, total, unit
        self._done = self._resumed = done
        self._note = ""
        self._start = self._last = time.monotonic()
        self._rich: Progress | None = None
        self._shown = shown
        self._told = -1
        if shown and sys.stdout.isatty():
            self._rich = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(),
            )
            self._task = self._rich.add_task(description, total=total, completed=done, unit=unit, note="")

    def advance(self, steps: int = 1) -> None:
        """Counts `steps` more units as done."""
        self._done += steps
        if self._rich:
            self._rich.update(self._task, completed=self._done)
        elif time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._plain()

    def note(self, text: str) -> None:
        """Sets the remark beside the bar (a loss, say)."""
        self._note = text
        if self._rich:
            self._rich.update(self._task, note=text)

    def _plain(self) -> None:
        if not self._shown:
            return
        self._told = self._done
        self._last = time.monotonic()
        elapsed_s = max(self._last - self._start, 1e-9)
        rate = (self._done - self._resumed) / elapsed_s
        eta = f"{(self.total - self._done) / rate:.0f} s left" if rate > 0 else "no estimate yet"
        say(
            f"{self.description}: {self._done}/{self.total} {self.unit}, {rate:.2f} {self.unit}/s, {eta}"
            + (f", {self._note}" if self._note else "")
        )

    def __enter__(self) -> "Bar":
        if self._rich:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich:
            self._rich.stop()
        elif kind is None and self._told != self._done:
            self._plain()


@contextmanager
def progress(description: str, total: int, unit: str = "it", done: int = 0, shown: bool = True) -> Iterator[Bar]:
    """Yields a `Bar` over `total` units of which `done` were finished by an earlier run. shown: else it is silent."""
    with Bar(description, total, unit, done, shown) as bar:
        yield bar
