"""One worker process on each device, all filling one folder; and what such a process does.

A worker reads one line of JSON (settings and share) from its standard input and writes events, a line of JSON each:
`{"track": 1}` after every track, at the end `{"done": {...}}`, or `{"error": "...", "code": "...", "remedy": [...]}`
for a MixstyleError. It ends at once when its input ends, so that a parent that was killed leaves no process behind.
"""

import dataclasses
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any, Literal

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.processes import started_deaf_to_ctrl_c
from mixstyle.stages.separate.pipeline import Waits
from mixstyle.stages.separate.provenance import threads_of
from mixstyle.stages.separate.shard_maker import RunStats
from mixstyle.stages.settings.profile import Settings, plain


def run_on_devices(
    settings: Settings,
    stage: Literal["separate", "remix"],
    shard_index: int,
    num_shards: int,
    advance: Callable[[], None],
) -> list[RunStats]:
    """Starts a worker of a stage on each of its section's `devices` and waits for all. advance: called after every
    track.

    Raises MixstyleError when one of them failed or died; the others are let finish first.
    """
    section = getattr(settings, stage)
    devices = section.devices
    # Streams and batch are in the folder's settings by now: every worker takes them from there.
    threads = max(1, threads_of(section) // len(devices))
    events: queue.SimpleQueue[tuple[int, dict[str, Any] | None]] = queue.SimpleQueue()
    workers: list[_Worker] = []
    done: list[RunStats] = []
    errors: list[str] = []
    reported: dict[str, Any] | None = None
    try:
        for place, device in enumerate(devices):
            chosen = dataclasses.replace(section, device=device, devices=(), threads=threads, streams=0, batch_chunks=0)
            request = {
                "settings": plain(dataclasses.replace(settings, **{stage: chosen})),
                "shard_index": shard_index,
                "num_shards": num_shards,
            }
            workers.append(_Worker(place, stage, request, events))
        running = len(workers)
        while running:
            place, event = events.get()
            if event is None:
                running -= 1
                if (cause := workers[place].cause()) and not workers[place].reported:
                    errors.append(f"the worker on {devices[place]} ended ({cause})")
            elif "track" in event:
                advance()
            elif "done" in event:
                done.append(RunStats(**{**event["done"], "waits": Waits(**event["done"]["waits"])}))
            else:
                workers[place].reported = True
                errors.append(event["error"])
                reported = reported or event
    finally:
        for worker in workers:
            worker.end()
    if errors:
        line = "; ".join(dict.fromkeys(errors))
        if reported is not None:
            raise MixstyleError(line, code=reported["code"], remedy=reported["remedy"])
        raise MixstyleError(f"{line}; run the same command to continue", code="worker-died")
    return done


class _Worker:
    """A worker process, and the thread that reads its events."""

    def __init__(
        self,
        place: int,
        stage: str,
        request: dict[str, Any],
        events: "queue.SimpleQueue[tuple[int, dict[str, Any] | None]]",
    ) -> None:
        self.reported = False
        """Whether it sent its error itself, by an event."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with started_deaf_to_ctrl_c():  # it goes to this process, which ends them
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", f"mixstyle.stages.{stage}.shard_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
        self._place, self._events = place, events
        if self._process.stdin is None:
            raise RuntimeError("a process without pipes")
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def cause(self) -> str:
        """How the process ended, empty where all was well."""
        status = self._process.wait()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}" if status else ""

    def end(self) -> None:
        """Ends the process, if it has not ended."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._events.put((self._place, json.loads(line)))
        self._events.put((self._place, None))
