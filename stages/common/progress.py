"""Progress of long work: a rich bar with rate and ETA on a terminal, plain lines elsewhere.

It goes to the standard error output, and so do remarks: the standard output holds what a command was asked for.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import zip_longest
from types import TracebackType

from rich.console import Console, RenderableType
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
from rich.table import Table
from rich.text import Text

from mixstyle.cache.storage.remote_folder import by_url
from mixstyle.pipeline.core.text import printable
from mixstyle.stages.common.notes import first_time

PLAIN_INTERVAL_S = 10.0
"""Seconds between two plain lines where there is no terminal (logs, DVC, CI)."""
BEAT_S = 20.0
"""Seconds without one after which a plain line tells that the work goes on, though nothing was counted meanwhile."""

SLOW = 0.1
"""Units a second below which a plain line tells the seconds that each takes."""


@dataclass(frozen=True)
class Told:
    """How far some work is. what: the bar's description. done: 0 to 1; None where that is not known. rate: units a
    second, 0 where that is not known."""

    what: str
    done: float | None
    rate: float = 0.0
    unit: str = ""


Watcher = Callable[[Told], None]
"""Is told in the thread that works; what it raises ends the work."""
_watcher: ContextVar[Watcher | None] = ContextVar("_watcher", default=None)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Has the work of this thread tell how far it is, for those who show it elsewhere than here, or who may end it."""
    token = _watcher.set(watcher)
    try:
        yield
    finally:
        _watcher.reset(token)


def tell(what: str, done: float | None = None) -> None:
    """Tells the watcher, if there is one, of work that has no bar."""
    if (watcher := _watcher.get()) is not None:
        watcher(Told(what, done))


def say(line: str) -> None:
    """Prints one plain line at once, so that logs show it when it happens; what cannot be printed, with backslashes."""
    print(printable(by_url(line)), flush=True)


def remark(line: str, *, once: str = "") -> None:
    """Prints one plain line, as `say` does, of how the work goes or of what is left out.

    once: of remarks with the same text here, a command prints the first one alone.
    """
    if not once or first_time(once):
        print(printable(by_url(line)), file=sys.stderr, flush=True)


def speed_unit(unit: str) -> str:
    """What a speed is given in. Work that is counted in seconds of audio is compared with real time.

    >>> speed_unit("clips"), speed_unit("s")
    ('clips/s', 'x real time')
    """
    return "x real time" if unit == "s" else f"{unit}/s"


class _Rate(ProgressColumn):
    """Units a second, as the task's field `unit` names them."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        unit = task.fields.get("unit", "it")
        return Text(f"{speed:.2f} {speed_unit(unit)}" if speed else f"- {speed_unit(unit)}")


class _Watched(Progress):
    """A progress bar below a table of what is going on, once there is something to show."""

    values: Mapping[str, str] = {}

    def get_renderables(self) -> Iterator[RenderableType]:
        if self.values:
            table = Table.grid(padding=(0, 3))
            half = -(-len(self.values) // 2)
            cells = [f"[dim]{name}[/dim] {value}" for name, value in self.values.items()]
            for left, right in zip_longest(cells[:half], cells[half:], fillvalue=""):
                table.add_row(left, right)
            yield table
        yield self.make_tasks_table(self.tasks)


class Bar:
    """What `progress` hands out: `advance` counts; `note` sets a remark beside the bar, `watch` a table above."""

    def __init__(
        self, description: str, total: int, unit: str, done: int, shown: bool = True, brief: bool = False
    ) -> None:
        self.description, self.total, self.unit = description, total, unit
        self._done = self._resumed = done
        self._note = ""
        self._start = self._last = time.monotonic()
        self._rich: _Watched | None = None
        self._shown, self._brief = shown, brief
        self._told = -1
        self._printing, self._ended = threading.Lock(), threading.Event()
        if shown and sys.stderr.isatty():
            self._rich = _Watched(
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}", markup=False),
                console=Console(stderr=True),
                redirect_stdout=sys.stdout.isatty(),  # elsewhere, what is printed meanwhile has to get there
                transient=brief,
            )
            self._task = self._rich.add_task(description, total=total, completed=done, unit=unit, note="")

    def advance(self, steps: int = 1) -> None:
        """Counts `steps` more units as done."""
        self._done += steps
        if (watcher := _watcher.get()) is not None:
            watcher(Told(self.description, min(self._done / max(self.total, 1), 1.0), self._rate(), self.unit))
        if self._rich:
            self._rich.update(self._task, completed=self._done)
        elif time.monotonic() - self._last >= PLAIN_INTERVAL_S:
            self._plain()

    def note(self, text: str) -> None:
        """Sets the remark beside the bar (a loss, say)."""
        self._note = text
        if self._rich:
            self._rich.update(self._task, note=text)

    def watch(self, values: Mapping[str, str]) -> None:
        """Shows values by name in a table above the bar, on a terminal alone: plain lines would be too many."""
        if self._rich:
            self._rich.values = dict(values)

    def _rate(self) -> float:
        """Units a second."""
        return (self._done - self._resumed) / max(time.monotonic() - self._start, 1e-9)

    def _plain(self) -> None:
        if not self._shown:
            return
        with self._printing:
            self._told = self._done
            self._last = time.monotonic()
            rate = self._rate()
            counted = f"{self.description}: {self._done}/{self.total} {self.unit}"
            if rate > 0:
                speed = f"{rate:.2f} {speed_unit(self.unit)}" if rate >= SLOW else f"{1 / rate:.0f} s each"
                counted += f", {speed}, {(self.total - self._done) / rate:.0f} s left"
            elif self._done < self.total:
                counted += f", {self._last - self._start:.0f} s so far, no estimate yet"
            remark(counted + (f", {self._note}" if self._note else ""))

    def _beat(self) -> None:
        """Prints a line whenever none was for BEAT_S: one unit of the work may take minutes."""
        while not self._ended.wait(max(0.0, self._last + BEAT_S - time.monotonic())):
            if time.monotonic() - self._last >= BEAT_S:
                self._plain()

    def __enter__(self) -> "Bar":
        if self._rich:
            self._rich.start()
        elif self._shown and self._done < self.total:
            threading.Thread(target=self._beat, name="progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._rich:
            self._rich.stop()
        elif kind is None and self.total and self._told != self._done and not self._brief:
            self._plain()


@contextmanager
def progress(
    description: str, total: int, unit: str = "it", done: int = 0, shown: bool = True, brief: bool = False
) -> Iterator[Bar]:
    """Yields a `Bar` over `total` units of which `done` were finished by an earlier run.

    shown: else it is silent. brief: work that most often takes seconds: nothing is left of its bar at the end, and no
    plain line is printed but while it goes on.
    """
    with Bar(description, total, unit, done, shown, brief) as bar:
        yield bar
