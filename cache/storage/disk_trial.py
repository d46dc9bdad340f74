"""How fast a folder's disk is, and whether locks keep processes apart there; measured in a temporary folder."""

import errno
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

TRIAL_BYTES = 64_000_000
"""Written and read: what one shard's order of size is."""
_BLOCK_BYTES = 8_000_000
LONGEST_S = 10.0
"""A disk that is slower writes less than all of it."""
_LOCKED_ELSEWHERE = 3
_CHILD = f"""
import errno, fcntl, sys
try:
    fcntl.lockf(open(sys.argv[1], "r+b"), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError as error:
    sys.exit({_LOCKED_ELSEWHERE} if error.errno in (errno.EACCES, errno.EAGAIN) else 1)
"""
"""Asks for a lock that this process holds: it has to be another process, for a process's own locks never refuse it."""


@dataclass(frozen=True)
class DiskSpeed:
    """write_mb_per_s: with fsync after each 8 MB. read_mb_per_s: past the system's memory where `uncached`."""

    bytes: int
    write_mb_per_s: float
    read_mb_per_s: float
    uncached: bool


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest one above it that is there."""
    place = path.expanduser().absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    return place


def disk_speed(folder: Path, most_bytes: int = TRIAL_BYTES) -> DiskSpeed:
    """Writes and reads a temporary file in a folder, and leaves nothing. Raises OSError where that is refused."""
    block = os.urandom(min(_BLOCK_BYTES, most_bytes))  # some file systems store zeros for nothing
    with tempfile.TemporaryFile(dir=folder, prefix=".mixstyle-", buffering=0) as file:
        begin, written = time.perf_counter(), 0
        while written < most_bytes and time.perf_counter() - begin < LONGEST_S:
            written += file.write(block)
            os.fsync(file.fileno())
        write_s = time.perf_counter() - begin
        uncached = _forgotten(file.fileno())
        file.seek(0)
        begin = time.perf_counter()
        while file.read(_BLOCK_BYTES):
            pass
        read_s = time.perf_counter() - begin
    return DiskSpeed(written, written / write_s / 1e6, written / read_s / 1e6, uncached)


def _forgotten(handle: int) -> bool:
    """Has the system forget a file's pages, so that it is read from the disk; whether it could be asked to."""
    if not hasattr(os, "posix_fadvise"):
        return False
    try:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    except OSError:
        return False
    return True


def locks_work(folder: Path) -> bool:
    """Whether a lock that one process holds on a file there refuses another. Raises OSError where no file is made."""
    import fcntl  # not on every system

    with tempfile.NamedTemporaryFile(dir=folder, prefix=".mixstyle-") as file:
        try:
            fcntl.lockf(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EIO):
                raise
            return False  # the file system has none
        words = [sys.executable, "-I", "-S", "-c", _CHILD, file.name]
        return subprocess.run(words, capture_output=True, timeout=60).returncode == _LOCKED_ELSEWHERE
