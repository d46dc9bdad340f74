"""Work that takes a while: one job at a time, the others wait in line, and each can be asked how far it is."""

import secrets
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.text import printable

MOST_WAITING = 4
KEPT_JOBS = 50


class Job:
    """One piece of work. what: in words. phase, done: what it is at, and how much of that, 0 to 1 or None."""

    def __init__(self, what: str, work: Callable[["Job"], dict[str, Any]]) -> None:
        self.id, self.what = secrets.token_hex(8), what
        self.phase = "waits for the job before it"
        self.done: float | None = None
        self._work = work
        self._started: float | None = None
        self._ended: float | None = None
        self.future: Future[dict[str, Any]] = Future()

    def at(self, phase: str, done: float | None = None) -> None:
        """Tells what it is at."""
        self.phase, self.done = phase, done

    def run(self) -> dict[str, Any]:
        """Does the work."""
        self._started = time.monotonic()
        self.at("begins")
        try:
            return self._work(self)
        finally:
            self._ended = time.monotonic()

    @property
    def waits(self) -> bool:
        return self._started is None

    def as_json(self) -> dict[str, Any]:
        """Its state: waiting, running, done with a result, or failed with a reason in words."""
        begun = self._started or time.monotonic()
        told: dict[str, Any] = {
            "id": self.id,
            "what": self.what,
            "phase": self.phase,
            "done": self.done,
            "seconds": round((self._ended or time.monotonic()) - begun, 1),
        }
        if not self.future.done():
            return {**told, "state": "waiting" if self.waits else "running"}
        error = self.future.exception()
        if error is None:
            return {**told, "state": "done", "result": self.future.result()}
        if isinstance(error, MixstyleError):
            return {**told, "state": "failed", "error": printable(error.message), "code": error.code}
        print(printable(f"browse: {self.what}: {type(error).__name__}: {one_line(error)}"), file=sys.stderr)
        return {**told, "state": "failed", "error": f"this failed here ({type(error).__name__}); the terminal has more"}


class Jobs:
    """One worker and its line. busy: held while a job runs."""

    def __init__(self, busy: threading.Lock) -> None:
        self._busy = busy
        self._worker = ThreadPoolExecutor(1, "browse-job")
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, what: str, work: Callable[[Job], dict[str, Any]]) -> Job:
        """Puts a job in line. Raises MixstyleError (in-use) where too many wait."""
        job = Job(what, work)
        with self._lock:
            if sum(other.waits for other in self._jobs.values()) >= MOST_WAITING:
                raise MixstyleError(f"{MOST_WAITING} jobs wait already; try again when one is done", code="in-use")
            self._jobs[job.id] = job
            while len(self._jobs) > KEPT_JOBS:
                self._jobs.popitem(last=False)
            job.future = self._worker.submit(self._run, job)
        return job

    def job(self, name: str) -> Job:
        """Raises KeyError."""
        with self._lock:
            return self._jobs[name]

    def close(self) -> None:
        """Drops what waits and lets the running job end."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def _run(self, job: Job) -> dict[str, Any]:
        with self._busy:
            return job.run()
