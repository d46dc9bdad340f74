"""Several processes that train one encoder: started here on one machine, or by torchrun on any number of them."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import yaml

from mixstyle.cache.storage.remote_folder import KeptFolder
from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.encoder.distributed import join_ranks, leave_ranks, wait_for_ranks
from mixstyle.stages.common.commands import called_environment
from mixstyle.stages.common.limits import COUNT
from mixstyle.stages.common.processes import end_with_parent
from mixstyle.stages.common.progress import remark
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.settings.train import TrainSettings

POLL_S = 0.1
WATCHED = "MIXSTYLE_TRAIN_WATCHED"
"""Set where a process should end as soon as its standard input does."""
GRACE_S = 60.0
"""How long processes may take to end when they are asked to: the step that is under way is finished and saved."""


@contextmanager
def as_rank(options: TrainSettings) -> Iterator[bool]:
    """Joins the processes that torchrun's environment variables tell of; yields whether there are any.

    Raises MixstyleError where the others are not found (remote), and where one ends before this one (worker-died).
    """
    check_environment()
    if _number("WORLD_SIZE", 1) < 2:
        yield False
        return
    if WATCHED in os.environ:
        end_with_parent()
    device = device_of_rank(options)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_others("nccl" if device.type == "cuda" else "gloo")
    try:
        yield True
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
            raise MixstyleError(
                "train: another process of this run ended; see its message above. Run the same command to "
                "continue from the last checkpoint",
                code="worker-died",
            ) from error
        raise
    finally:
        if dist.is_initialized():
            leave_ranks()


def join_others(backend: str, timeout: timedelta | None = None) -> None:
    """Joins the other processes. timeout: as `join_ranks` has it. Raises MixstyleError (remote) where that fails."""
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    size = _number("WORLD_SIZE", 1)
    if WATCHED not in os.environ:  # those of torchrun may be on several machines, and wait for each other
        remark(f"train: process {_number('RANK', 0)} of {size} joins the others at {address} (MASTER_ADDR:MASTER_PORT)")
    try:
        join_ranks(backend, timeout)
    except (RuntimeError, ValueError) as error:
        if dist.is_initialized():
            leave_ranks()
        raise MixstyleError(
            f"train: the {size} processes did not find each other at {address} ({one_line(error)}); see that "
            "MASTER_ADDR is the machine of process 0, that the others can reach its MASTER_PORT, and that all of them "
            "were started; then give the same command again",
            code="remote",
        ) from error


def device_of_rank(options: TrainSettings) -> torch.device:
    """This process' device: its own of `train.devices`; else a GPU of its own where there are several processes, unless
    `train.device` says `cpu`. Raises MixstyleError for too few devices.
    """
    place = _number("LOCAL_RANK", 0)
    if options.devices:
        if place >= len(options.devices):
            raise MixstyleError(
                f"train.devices={','.join(options.devices)}: process {place + 1} has none of them", code="no-device"
            )
        return resolve_device(options.devices[place], "--devices")
    device = resolve_device(options.device)
    if device.type != "cuda" or _number("WORLD_SIZE", 1) < 2:
        return device
    if place >= torch.cuda.device_count():
        raise MixstyleError(
            f"train.processes: process {place + 1} has no GPU, there are {torch.cuda.device_count()}", code="no-device"
        )
    return torch.device("cuda", place)


def fetch_for_ranks(folder: KeptFolder, leads: bool, rebuild: bool) -> None:
    """Fetches a training's folder that is behind a URL: one process of each machine does, and the others wait.

    rebuild: all of it is to be made again. What cannot be had of the rest is told by the first process (leads).
    """
    if folder.is_remote and _number("LOCAL_RANK", 0) == 0:
        left_out: list[str] = []
        folder.fetch(left_out=left_out, rebuild=rebuild)
        for line in left_out if leads else ():
            remark(f"train: warning: left out {line}")
    wait_for_ranks()


def _number(name: str, default: int, most: int = COUNT) -> int:
    """A whole number of the environment, at most `most`. Raises MixstyleError for something else."""
    text = os.environ.get(name, "") or str(default)
    if not (text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most):
        raise MixstyleError(
            f"{name}={text:.100}: should be a whole number up to {most}, as torchrun sets it", code="bad-option"
        )
    return int(text)


def check_environment() -> None:
    """Raises MixstyleError where the variables of the environment that join several processes are not all there, or
    not apt."""
    size = _number("WORLD_SIZE", 1)
    if size < 2:
        return
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise MixstyleError(
            f"WORLD_SIZE={size} is set without {', '.join(missing)}: start the processes with torchrun or with "
            "--devices, or unset WORLD_SIZE to train in one process",
            code="bad-option",
        )
    _number("MASTER_PORT", 0, 65535)
    if _number("RANK", 0) >= size:
        raise MixstyleError(f"RANK={_number('RANK', 0)}: should be below WORLD_SIZE={size}", code="bad-option")


def in_processes(settings: Settings, rebuild: bool) -> None:
    """Runs the processes of `train.devices` or `train.processes` on this machine until they end.

    Raises MixstyleError with what the first one said that failed; the others are ended then. KeyboardInterrupt after
    a Ctrl-C or SIGTERM, when all have saved and ended.
    """
    count = settings.train.process_count
    with tempfile.TemporaryDirectory(prefix="mixstyle-train-") as folder:
        profile = Path(folder) / "settings.yaml"
        profile.write_text(yaml.safe_dump(plain(settings)), encoding="utf-8")
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": str(count)}
        address |= called_environment() | {
            WATCHED: "1",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }
        if sys.platform == "linux":
            address["GLOO_SOCKET_IFNAME"] = "lo"
        threads = settings.train.threads or max(1, torch.get_num_threads() // count)
        command = [sys.executable, "-P", "-m", "mixstyle.stages", "train", "--config", str(profile)]
        processes, told = [], []
        for rank in range(count):
            told.append(Path(folder) / f"rank{rank}.txt")
            with told[-1].open("wb") as stderr:
                place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": str(threads)}
                first = ["--rebuild"] if rebuild and rank == 0 else []
                environment = {**os.environ, **address, **place}
                processes.append(
                    subprocess.Popen([*command, *first], env=environment, stdin=subprocess.PIPE, stderr=stderr)
                )
        try:
            failed = _wait(processes)
        finally:
            _end(processes)
        if failed is not None:
            raise MixstyleError(_why(settings, failed, processes[failed].returncode, told[failed]), code="worker-died")


def _wait(processes: list["subprocess.Popen[bytes]"]) -> int | None:
    """Waits until all have ended well, or one has not: its number, one that was killed before one that complains."""
    interrupted: KeyboardInterrupt | None = None
    while True:
        try:
            codes = [process.poll() for process in processes]
            if any(codes) and interrupted is None:
                time.sleep(POLL_S)  # those that miss it complain at once, too
                codes = [process.poll() for process in processes]
                bad = [rank for rank, code in enumerate(codes) if code]
                return min(bad, key=lambda rank: (codes[rank] or 0) > 0)
            if None not in codes:
                if interrupted is not None:
                    raise interrupted
                return None
            time.sleep(POLL_S)
        except KeyboardInterrupt as error:
            if interrupted is not None or None not in [process.poll() for process in processes]:
                raise
            interrupted = error
            _ask_to_end(processes)  # a terminal has told them too, but who sent a signal to this process has not


def _ask_to_end(processes: list["subprocess.Popen[bytes]"]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def _end(processes: list["subprocess.Popen[bytes]"]) -> None:
    _ask_to_end(processes)
    deadline = time.monotonic() + GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _why(settings: Settings, rank: int, code: int, told: Path) -> str:
    lines = told.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code == 1 and lines and lines[-1].startswith("mixstyle: error: "):
        return lines[-1].removeprefix("mixstyle: error: ")
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
    sys.stderr.writelines(f"{line}\n" for line in lines)
    return (
        f"train: process {rank + 1} of {settings.train.process_count} {how}; run the same command to continue from the "
        f"last checkpoint in {shown(settings.train.checkpoint_dir)}"
    )


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
