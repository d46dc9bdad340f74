"""The disk for `mixstyle doctor`: free space, speed and locks of one folder."""

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.disk_trial import disk_speed, locks_work, nearest_folder
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.doctor.findings import Failure, Problem, Section, tried

LITTLE_FREE_BYTES = 1e9
"""Of clips of four stereo stems, 16 bits at 44.1 kHz, 24 minutes before FLAC makes them smaller (0.7 MB a second)."""
ELSEWHERE = "--set separate.stems_dir=/another/folder"


def disk_section(folder: Path, separate: str = "mixstyle separate") -> Section:
    """What there is to know of a folder's disk; of the nearest folder above where it is not there yet.

    separate: the command that writes stems, with the options that were given; for what helps.
    """
    elsewhere = f"{separate} {ELSEWHERE}"
    place = nearest_folder(folder)
    usage = tried(lambda: shutil.disk_usage(place))
    facts: dict[str, Any] = {"folder": place}
    if isinstance(usage, Failure):
        facts["free_bytes"] = usage
    else:
        facts |= {"total_bytes": usage.total, "free_bytes": usage.free}
    facts["file_system"] = tried(lambda: file_system_of(place))
    problems = _space_problems(place, facts["free_bytes"], elsewhere)
    refusal = _refusal(place)
    if refusal:
        facts["can_be_written"] = Failure(refusal)
        return Section("disk", facts, (*problems, Problem(refusal, f"another folder: {elsewhere}")))
    free = facts["free_bytes"]
    if isinstance(free, int) and free < LITTLE_FREE_BYTES:
        facts["speed"] = Failure("too little space is free to measure it")
    else:
        speed = tried(lambda: disk_speed(place))
        facts |= {"speed": speed} if isinstance(speed, Failure) else _speed_facts(asdict(speed))
    facts["locks_work"] = tried(lambda: locks_work(place))
    if facts["locks_work"] is False:
        what = f"{place}: its file system has no file locks"
        problems += (Problem(what, f"let one process at a time write there, or use another folder: {elsewhere}"),)
    return Section("disk", facts, problems)


def _space_problems(place: Path, free: Any, elsewhere: str) -> tuple[Problem, ...]:
    if not isinstance(free, int) or free >= LITTLE_FREE_BYTES:
        return ()
    return (Problem(f"{place}: {free / 1e6:.0f} MB are free", f"free some space, or use another disk: {elsewhere}"),)


def _refusal(place: Path) -> str:
    """Why nothing can be written there; empty where something can."""
    try:
        check_folder(place)
    except MixstyleError as error:
        return error.message
    return ""


def _speed_facts(speed: dict[str, Any]) -> dict[str, Any]:
    uncached = speed.pop("uncached")
    return {
        "measured_with_bytes": speed["bytes"],
        "write_mb_per_s": speed["write_mb_per_s"],
        "read_mb_per_s": speed["read_mb_per_s"],
        **({} if uncached else {"note": "read from memory: this system keeps the file in its cache"}),
    }


def file_system_of(place: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """The kind of file system that a folder is on (`ext4`, `nfs4`); None on systems that do not list theirs."""
    if not mounts.is_file():
        return None
    lines = [line.split() for line in mounts.read_text(errors="replace").splitlines()]
    below = [(len(at), kind) for _, at, kind, *_ in lines if place.resolve().is_relative_to(at)]
    longest = max((length for length, _ in below), default=0)
    return next((kind for length, kind in reversed(below) if length == longest), None)  # the last mount is on top
