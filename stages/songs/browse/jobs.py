"""Work that takes a while: one job at a time, the others wait in line.

Each can be asked how far it is, and stopped. One that no page has asked about for some time is stopped, so that a page
that is closed leaves nothing running.
"""

import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.text import printable
from mixstyle.stages.common.progress import Told, watched

MOST_WAITING = 4
KEPT_JOBS = 50
ABANDONED_S = 180.0
"""Since a page asked last. Browsers let a page in the background ask once a minute."""
LEAST_DONE, LEAST_S = 0.03, 2.0
"""Of a step, until what is left of it is estimated."""


class StoppedError(Exception):
    """Ends the work of a job that is not wanted any more; the reason in words."""


class Job:
    """One piece of work. what: in words. steps: what it goes through, in order, in words by what progress calls it."""

    def __init__(
        self, what: str, work: Callable[["Job"], dict[str, Any]], steps: Mapping[str, str] | None = None
    ) -> None:
        self.id, self.what, self.steps = secrets.token_hex(8), what, dict(steps or {})
        self.phase = "waits for the job before it"
        self.future: Future[dict[str, Any]] = Future()
        self._work = work
        self._told = Told("", None)
        self._step_since = 0.0
        self._started: float | None = None
        self._ended: float | None = None
        self._why_stopped = ""
        self._asked = time.monotonic()

    def run(self) -> dict[str, Any]:
        """Does the work. Raises StoppedError where it is stopped."""
        self._started = time.monotonic()
        self.phase = next(iter(self.steps.values()), "begins")
        try:
            self._check()
            with watched(self.watch):
                return self._work(self)
        finally:
            self._ended = time.monotonic()

    def watch(self, told: Told) -> None:
        """Takes down how far it is. Raises StoppedError where it is to stop."""
        self._check()
        if told.what not in self.steps:
            return
        if told.what != self._told.what:
            self._step_since = time.monotonic()
            self.phase = self.steps[told.what]
        self._told = told

    def stop(self, why: str = "stopped") -> None:
        """Has it end where it tells of its progress next, or before it begins."""
        if not self.future.done():
            self._why_stopped = self._why_stopped or why
            self.future.cancel()

    def asked(self) -> None:
        """A page asks about it."""
        self._asked = time.monotonic()

    @property
    def waits(self) -> bool:
        return self._started is None and not self.future.done()

    def as_json(self) -> dict[str, Any]:
        """Its state: waiting, running, done with a result, or stopped or failed with a reason in words."""
        begun = self._started or time.monotonic()
        told: dict[str, Any] = {
            "id": self.id,
            "what": self.what,
            "phase": self.phase,
            "seconds": round((self._ended or time.monotonic()) - begun, 1),
        }
        if not self.future.done():
            if self._why_stopped:
                return {**told, "state": "running", "phase": "is being stopped", "done": None}
            return {**told, "state": "waiting" if self.waits else "running", **self._progress()}
        if self.future.cancelled():
            return {**told, "state": "stopped", "error": self._why_stopped}
        error = self.future.exception()
        if error is None:
            return {**told, "state": "done", "result": self.future.result()}
        if isinstance(error, StoppedError):
            return {**told, "state": "stopped", "error": str(error)}
        if isinstance(error, MixstyleError):
            return {**told, "state": "failed", "error": printable(error.message), "code": error.code}
        print(printable(f"browse: {self.what}: {type(error).__name__}: {one_line(error)}"), file=sys.stderr)
        return {**told, "state": "failed", "error": f"this failed here ({type(error).__name__}); the terminal has more"}

    def _progress(self) -> dict[str, Any]:
        """The step, and how far that is: share, rate and seconds left, None where they are not known."""
        told, gone_s = self._told, time.monotonic() - self._step_since
        steps = list(self.steps)
        known = told.done is not None and told.done >= LEAST_DONE and gone_s >= LEAST_S
        return {
            "step": steps.index(told.what) + 1 if told.what in steps else 0,
            "steps": len(steps),
            "done": None if told.done is None else round(told.done, 3),
            "left_s": round(gone_s * (1 - told.done) / told.done) if known and told.done else None,
            "rate": round(told.rate, 1) if told.unit == "s" and known else None,
        }

    def _check(self) -> None:
        if not self._why_stopped and time.monotonic() - self._asked > ABANDONED_S:
            self._why_stopped = "stopped: no page has asked for it for a while"
        if self._why_stopped:
            raise StoppedError(self._why_stopped)


class Jobs:
    """One worker and its line. busy: held while a job runs."""

    def __init__(self, busy: threading.Lock) -> None:
        self._busy = busy
        self._worker = ThreadPoolExecutor(1, "browse-job")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(
        self,
        what: str,
        work: Callable[[Job], dict[str, Any]],
        steps: Mapping[str, str] | None = None,
        discard: Callable[[], None] = lambda: None,
    ) -> Job:
        """Puts a job in line. steps: as `Job` has them. discard: removes what is there of it where it gives no result.
        Raises MixstyleError (in-use) where too many wait."""
        job = Job(what, work, steps)
        with self._lock:
            if sum(other.waits for other in self._jobs.values()) >= MOST_WAITING:
                raise MixstyleError(f"{MOST_WAITING} jobs wait already; try again when one is done", code="in-use")
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT_JOBS:
                self._jobs.popitem(last=False)
            job.future = self._worker.submit(self._run, job, discard)
        job.future.add_done_callback(lambda future: discard() if future.cancelled() else None)
        return job

    def job(self, name: str) -> Job:
        """Raises KeyError."""
        with self._lock:
            job = self._jobs[name]
        job.asked()
        return job

    def close(self) -> None:
        """Stops what runs and what waits."""
        with self._lock:
            for job in self._jobs.values():
                job.stop("the server ends")
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job, discard: Callable[[], None]) -> dict[str, Any]:
        with self._busy:
            try:
                return job.run()
            except BaseException:
                discard()
                raise
