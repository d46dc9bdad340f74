"""Trials that take from commands what they stand on: room on the disk, permission to write, locks, the clock."""

import ctypes
import errno
import fcntl
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from torture.children import in_child
from torture.commands import Stage, fresh
from torture.workplace import Outcome, Workplace, finish, refused_well
from torture.writes import Writes

DAY_S = 86_400


def without_locks() -> None:
    """Locking fails, as on a file system that has none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl.lockf = fcntl.flock = refuse


def locks_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """Two runs at once where nothing can be locked: a warning, whole outputs or a line, and one run more heals."""
    fresh(place.work, place.reference, stage)
    first = place.run(stage, prepare=without_locks)
    time.sleep(draw.uniform(0.0, place.took_s[stage.name] / 2))
    second = place.run(stage, prepare=without_locks)
    try:
        first.wait()
        second.wait()
    finally:
        first.kill_group()
        second.kill_group()
    problem = refused_well(first) or refused_well(second) or finish(place, stage, without_locks)
    met = f"the two ended with {first.poll()} and {second.poll()}"
    first.forget()
    second.forget()
    return Outcome("no locks", stage.name, "two runs", met, problem)


def clock_trial(place: Workplace, stage: Stage, draw: random.Random) -> Outcome:
    """A killed run goes on after the clock was set back: all that is there is from the future."""
    fresh(place.work, place.reference, stage)
    number = draw.randrange(place.writes[stage.name]) + 1
    run = place.run(stage, prepare=Writes().watch(place.work, number, all_at_once=True))
    run.wait()
    run.kill_group()
    run.forget()
    back_s = draw.choice((3_600, DAY_S, 3_650 * DAY_S))
    later = time.time() + back_s / 2
    for path in place.work.rglob("*"):  # half of it each: what is written from now on has the time of the kernel
        os.utime(path, (later, later))
    problem = finish(place, stage, prepare=lambda: _set_back(back_s / 2))
    return Outcome("clock set back", stage.name, f"by {back_s // 3_600} h after write {number}", "went on", problem)


def _set_back(seconds: float) -> None:
    """Every clock of Python that tells the time of day goes behind; others cannot be set for one process."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() - seconds
    time.time_ns = lambda: now_ns() - round(seconds * 1e9)
    time.localtime = _behind(time.localtime)
    time.gmtime = _behind(time.gmtime)


def _behind(of: Callable[..., time.struct_time]) -> Callable[..., time.struct_time]:
    """A function of seconds whose default is the time of now: that of `time.time`."""
    return lambda seconds=None: of(time.time() if seconds is None else seconds)


FULL = re.compile(rf"{os.strerror(errno.ENOSPC)}|[MG]B are free")
"""How commands tell of a full disk."""
CLONE_NEWNS, CLONE_NEWUSER, MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 1, 32, 16384, 1 << 18


def _call(done: int, what: str) -> None:
    if done != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _mount(folder: Path, flags: int, data: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    _call(libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", flags, data.encode()), "mount")


def _own_mounts() -> None:
    """A namespace of mounts for this process and those that it forks."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _call(libc.unshare(CLONE_NEWNS | CLONE_NEWUSER), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    _call(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount")


def disk_trial(place: Workplace, stage: Stage, draw: random.Random, read_only: bool) -> Outcome:
    """The folder is a tmpfs with too little room, or one that cannot be written; then one that can."""
    kind = "read-only" if read_only else "full disk"
    share = draw.uniform(0.0, 0.9)

    def tried() -> dict[str, str]:
        _own_mounts()
        fresh(place.work, place.reference, stage)
        small = sum(_rounded(path) for path in place.work.rglob("*"))
        made = sum(_rounded(path) for name in stage.made for path in _all(place.reference / name))
        kept = place.work.with_name("kept")
        place.work.rename(kept)
        place.work.mkdir()
        size = 1 << 30 if read_only else small + max(4096, int(share * made) // 4096 * 4096)
        _mount(place.work, 0, f"size={size}")
        os.system(f"cp -a '{kept}/.' '{place.work}/' && rm -r '{kept}'")
        if read_only:
            _mount(place.work, MS_REMOUNT | MS_RDONLY, f"size={size}")
        run = place.run(stage)
        status = run.wait()
        said = run.said()
        problem, met = refused_well(run), f"ended with {status}: {_last(said)}"
        left = place.differ(stage) if status == 0 else []
        if status == 0 and (read_only or left):
            problem = "ended with 0 though nothing can be written" if read_only else f"ended with 0: {left[:3]}"
        elif not read_only and status == 0:
            met = "not hit"  # it needed less than the unbroken run had left
        elif not read_only and not FULL.search(said):
            problem = problem or f"ended without a word of the full disk: {said[-300:]}"
        _mount(place.work, MS_REMOUNT, f"size={1 << 30}")
        return asdict(Outcome(kind, stage.name, f"{share:.2f} of its output", met, problem or finish(place, stage)))

    found = in_child(tried, place.work.parent / "tried.json")
    if isinstance(found, str):
        return Outcome(kind, stage.name, "", f"left out: {found}", "" if found.startswith("PermissionError") else found)
    return Outcome(**found)


def _last(said: str) -> str:
    return next((line for line in reversed(said.strip().splitlines()) if line.startswith("mixstyle: ")), "")[:300]


def _all(path: Path) -> list[Path]:
    return [path, *path.rglob("*")]


def _rounded(path: Path) -> int:
    """Bytes of a file or a folder on a tmpfs."""
    return -(-path.stat().st_size // 4096) * 4096 if path.is_file() else 0
