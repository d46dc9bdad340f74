"""Which failures to read a track may be gone in another run."""

import os
from pathlib import Path

from mixstyle.cache.music import ffmpeg

CRASHED = "the decoder crashed"
CANNOT_BE_READ = "cannot be read"
DENIED = "permission denied"
BROKEN_LINK = "broken link"
GONE = "no such file"
_TRANSIENT = (CRASHED, "out of memory", CANNOT_BE_READ)
"""What reasons begin with that may be the machine's and not the file's."""
_CLOSED = (DENIED, BROKEN_LINK, GONE)
"""What reasons begin with of files that could not be opened."""


def is_transient(reason: str) -> bool:
    """Whether the machine may be why a track was not decoded: its process was killed, took too long, or a disk failed.

    >>> is_transient("the decoder crashed: SIGKILL"), is_transient("too short: 1.00 s long, 20 s are needed")
    (True, False)
    """
    return reason.startswith(_TRANSIENT)


def is_gone(reason: str, path: Path) -> bool:
    """Whether a reason does not hold any more, though the file is the same: ffmpeg is installed now, or this user may
    read the file. path: the track, a file or a folder of stems."""
    if ffmpeg.NOT_INSTALLED in reason:
        return ffmpeg.installed() is not None
    return reason.startswith(_CLOSED) and _can_be_opened(path)


def _can_be_opened(path: Path) -> bool:
    try:
        if path.is_dir():
            return all(_can_be_opened(file) for file in path.iterdir() if not file.is_dir())
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except (OSError, ValueError):  # ValueError: no file can have this name
        return False
    return True
