"""The memory of a training that goes on for as long as a soak does: its own and its workers'."""

import csv
import ctypes
import os
import re
import shutil
import signal
import statistics
import time
from pathlib import Path

from torture.commands import BY_NAME, Run
from torture.workplace import Workplace

LEAST = 12
"""Values that a trend is told of."""
EPOCHS = 1_000_000
"""Far more than an hour has."""
SET_PDEATHSIG = 1
"""Of prctl(2)."""


class Memory:
    """A training of very many epochs and the memory of its processes: proportional set size, and what is no file's.

    The proportional set size counts a page that processes share once, in parts. So it moves as other processes take or
    leave libraries. It also rises when a full garbage collection of Python looks at all objects: the training is
    forked from a process that has imported everything, and the collector writes into pages that the two shared until
    then. The second value, the kernel's `Anonymous`, counts such a page in full in each process, before and after.
    """

    def __init__(self, place: Workplace) -> None:
        self._folder = place.work.parent / "soak"
        shutil.rmtree(self._folder, ignore_errors=True)
        self._work = self._folder / "work"
        shutil.copytree(place.reference, self._work)
        for made in ("checkpoints", "logs"):
            shutil.rmtree(self._work / made)
        music = self._folder / "music"
        music.symlink_to(place.work.parent / "music")
        stage = BY_NAME["train"]
        seldom = ("--set", "train.save_every_steps=500", "--set", f"train.checkpoint_every={EPOCHS}")
        more = ("--num-epochs", str(EPOCHS), *seldom)
        self._run = Run(self._work, (stage.name, *stage.words, *more), _beside)
        self._begun = time.monotonic()
        self.rows: list[tuple[float, float, float, int]] = []

    def look(self) -> None:
        """Takes a value down."""
        if self._run.poll() is not None:
            raise SystemExit(f"the training ended with {self._run.status}: {self._run.said()[-500:]}")
        found = self._run.processes()
        pss_mb, own_mb = (round(sum(of_mb(pid, field) for pid in found), 1) for field in ("Pss", "Anonymous"))
        self.rows.append((round(time.monotonic() - self._begun, 1), pss_mb, own_mb, len(found)))

    def close(self) -> None:
        """Ends the training."""
        self._run.kill_group()

    def told(self) -> str:
        """Writes the values and their picture; what they tell."""
        folder = self._folder.parent
        with (folder / "memory.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["seconds", "pss_mb", "anonymous_mb", "processes"])
            writer.writerows(self.rows)
        draw(self.rows, folder / "memory.png")
        if len(self.rows) < LEAST:
            return f"memory: {len(self.rows)} values, too few for a trend"
        thirds = len(self.rows) // 3
        early, late = (
            statistics.median(mb for _, _, mb, _ in rows) for rows in (self.rows[thirds:-thirds], self.rows[-thirds:])
        )
        return f"memory of the training, without files: {early:.0f} MB in the second third, {late:.0f} MB in the last"


def _beside() -> None:
    """The training leaves the processors to what is broken beside it, and ends with the process that looks at it."""
    os.nice(2)
    ctypes.CDLL(None).prctl(SET_PDEATHSIG, signal.SIGKILL)


def of_mb(pid: int, field: str) -> float:
    """A field of a process's memory, as the kernel adds it up over its mappings; 0 where the process is gone."""
    try:
        found = re.search(rf"^{field}:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0.0
    return int(found[1]) / 1024 if found else 0.0


def draw(rows: list[tuple[float, float, float, int]], path: Path) -> None:
    """MB over minutes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    minutes = [seconds / 60 for seconds, *_ in rows]
    axes.plot(minutes, [mb for _, mb, _, _ in rows], label="PSS of the training")
    axes.plot(minutes, [mb for _, _, mb, _ in rows], label="memory that is no file's")
    axes.set(xlabel="minutes", ylabel="MB", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=120)
