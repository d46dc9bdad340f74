"""The commands that `kills.py` breaks: a small profile, each command with what it makes, and processes that run them.

A command runs in a process forked from this one, which has imported everything: it starts in a moment, in a session of
its own, so that all the processes that it starts can be found. Nothing here computes in this process itself: the
OpenMP of a process that has computed with several threads waits for ever, after a fork, for those that the child lacks.
"""

import atexit
import importlib
import os
import pkgutil
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helpers.small_separator import CLIP_S, write_separator, write_songs
from helpers.training import TRAIN
from torture.children import in_child, threads_here

from mixstyle import pipeline, stages
from mixstyle.stages import cli

CONFIG = ("--config", "p.yaml")
IMPORTED_LATE = ("faiss", "matplotlib.pyplot", "pandas", "pedalboard", "pyarrow.parquet", "pyloudnorm")
IMPORTED_LATE += ("torch.utils.tensorboard", "webdataset", "zarr")
LIMIT_S = 300
"""A command that takes longer hangs, unless an unbroken one took a good part of it on this machine."""


@dataclass(frozen=True)
class Stage:
    """A command. made: what it makes in the folder. weight: how often it is drawn; less often where it takes long."""

    name: str
    words: tuple[str, ...]
    made: tuple[str, ...]
    weight: float = 1.0


SONGS = ("music/song 0.flac", "music/song 1.flac")
STAGES = (
    Stage("separate", CONFIG, ("stems",)),
    Stage("remix", CONFIG, ("remix",)),
    Stage("features", CONFIG, ("features.zarr", "remix.zarr")),
    Stage("train", CONFIG, ("checkpoints", "logs", "mels")),
    Stage("evaluate", CONFIG, ("evaluation", "banks"), weight=0.7),
    Stage("report", CONFIG, ("report",)),
    Stage("export", ("encoder.safetensors", *CONFIG), ("encoder.safetensors",)),
    Stage("index", ("../music", *CONFIG), ("index",)),
    Stage("embed", (*(f"../{song}" for song in SONGS), "-o", "songs.npy", *CONFIG), ("songs.npy", "songs.paths.txt")),
    Stage(
        "match",
        (f"../{SONGS[0]}", "-r", f"../{SONGS[1]}", "-o", "m.wav", "--chain", "m.json", "--write-stems", "m", *CONFIG),
        ("m.wav", "m.json", "m"),
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}


def write_inputs(folder: Path) -> Path:
    """Songs, a separator and a profile; the folder that commands run in, beside the songs."""
    failed = in_child(lambda: _write_inputs(folder), folder / "written.json")
    if failed:
        raise RuntimeError(failed)
    return folder / "work"


def _write_inputs(folder: Path) -> None:
    write_songs(folder / "music", 8, seconds=2.0)
    work = folder / "work"
    write_separator(work / "separator", num_overlap=1)
    one = {"device": "cpu", "threads": 1, "batch_chunks": 1}
    songs = {"separator_config": "separator/separator.yaml", "separator_checkpoint": "separator/separator.safetensors"}
    songs |= {"data_path": "../music", "stems_dir": "stems"}
    cut = {"clip_s": CLIP_S, "clips_per_track": 2, "tracks_per_shard": 2, "workers": 1}
    remix = {"remix_dir": "remix", "features_path": "remix.zarr", "blocks": 4, "blocks_per_shard": 1, "contents": 2}
    tasks = {"tasks": ["same-chain", "songs"], "chains": 10, "effects": [1], "whitening_chains": 0, "clip_s": CLIP_S}
    sections: dict[str, Any] = {
        "separate": {**songs, **one, **cut, "validation_fraction": 0.25, "test_fraction": 0.25},
        "remix": {**remix, **one, "chains_per_block": 1, "own_share": 0.0, "clip_s": CLIP_S, "num_overlap": 1},
        "features": {"features_path": "features.zarr", "device": "cpu", "workers": 1, "batch_clips": 2},
        "train": {**TRAIN, "clip_duration_s": CLIP_S, "checkpoint_dir": "checkpoints", "log_dir": "logs"},
        "evaluate": {"evaluate_dir": "evaluation", "bank_dir": "banks", "device": "cpu", "workers": 1, **tasks},
        "report": {"report_dir": "report", "device": "cpu"},
        "embed": {"encoder": "encoder.safetensors", "index_dir": "index", "device": "cpu", "workers": 1},
    }
    sections["train"] |= {"workers": 1, "mels_dir": "mels"}
    (work / "p.yaml").write_text(yaml.safe_dump(sections))


def import_all() -> None:
    """Imports what commands import when they run, so that the processes forked from here need not."""
    found = [*pkgutil.walk_packages(stages.__path__, "mixstyle.stages.")]
    found += pkgutil.walk_packages(pipeline.__path__, "mixstyle.pipeline.")
    for name in [module.name for module in found if not module.name.endswith("__main__")] + list(IMPORTED_LATE):
        importlib.import_module(name)


class Run:
    """A command in a process of its own."""

    def __init__(
        self, work: Path, words: Sequence[str], prepare: Callable[[], None] = lambda: None, limit_s: float = LIMIT_S
    ) -> None:
        """prepare: what is done in the process before the command begins. limit_s: of `wait`.

        Raises RuntimeError where this process has threads, with which a command could hang that hangs for nobody else.
        """
        if threads := threads_here():
            raise RuntimeError(f"threads are left here: {', '.join(threads)}; run it with OMP_NUM_THREADS=1")
        self.words, self._limit_s = tuple(words), limit_s
        self._log = work.parent / f"said-{time.monotonic_ns()}.txt"
        self.status: int | None = None
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _become(work, self.words, self._log, prepare)

    def poll(self) -> int | None:
        """Its exit status, as of subprocess; None while it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def wait(self) -> int:
        """Its exit status. Raises TimeoutError where it hangs; it is killed then."""
        deadline = time.monotonic() + self._limit_s
        while self.poll() is None:
            if time.monotonic() > deadline:
                self.kill_group()
                raise TimeoutError(
                    f"{' '.join(self.words)}: still there after {self._limit_s:.0f} s: {self.said()[-500:]}"
                )
            time.sleep(0.01)
        return self.status or 0

    def processes(self) -> list[int]:
        """All processes of its session that are there, without those that have ended and wait to be asked."""
        there = (int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit())
        return [pid for pid in there if _session(pid) == self.pid]

    def kill_group(self) -> None:
        """SIGKILL to all processes of its session at once."""
        while found := self.processes():
            for pid in found:
                _kill(pid)
            self.poll()
            time.sleep(0.01)

    def said(self) -> str:
        """What it printed."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def forget(self) -> None:
        """Removes what it printed."""
        self._log.unlink(missing_ok=True)


def _session(pid: int) -> int:
    """The session of a process; 0 where it is gone, or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    state, *numbers = stat.rpartition(")")[2].split()
    return 0 if state in "ZX" else int(numbers[2])


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def kill(run: Run, victim: str, draw: Callable[[Sequence[int]], int]) -> str:
    """Kills the main process, a worker or all of a run's processes; what was killed, "" where there was none."""
    if run.poll() is not None:
        return ""
    if victim == "worker":
        workers = [pid for pid in run.processes() if pid != run.pid]
        if workers:
            _kill(draw(sorted(workers)))
            return "worker"
        victim = "main"
    if victim == "group":
        run.kill_group()
    else:
        _kill(run.pid)
    return victim if run.wait() == -signal.SIGKILL else ""


def _become(work: Path, words: tuple[str, ...], log: Path, prepare: Callable[[], None]) -> None:
    """Runs the command in this process, which has just been forked, and ends it."""
    status = 70
    try:
        os.setsid()
        handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
        for number in (1, 2):
            os.dup2(handle, number)
        os.chdir(work)
        temporary = work.parent / "tmp"
        temporary.mkdir(exist_ok=True)
        os.environ |= {"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(work.parent / "home"), "COLUMNS": "200"}
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.argv = ["mixstyle", *words]
        prepare()
        cli.main()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 (told in what the command said)
        traceback.print_exc()
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def fresh(work: Path, reference: Path, stage: Stage, after: bool = False) -> None:
    """The folder as it is before a stage runs: what earlier ones made. after: as it is when all have run."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.rmtree(work.parent / "tmp", ignore_errors=True)
    shutil.copytree(reference, work)
    if not after:
        for later in STAGES[STAGES.index(stage) :]:
            for name in later.made:
                remove(work / name)


def remove(path: Path) -> None:
    """A file or a folder, with the lock beside it."""
    path.with_name(f".{path.name}.lock").unlink(missing_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def one_line_told(said: str) -> bool:
    """Whether a command ended in a line that says why, and without a traceback."""
    lines = [line for line in re.split(r"[\r\n]+", said.strip()) if line]
    return bool(lines) and "Traceback" not in said and any(line.startswith("mixstyle: error: ") for line in lines[-3:])
