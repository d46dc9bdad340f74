"""ShardLocks on numbered pieces of work: several processes share them out, and no two do the same one at once.

A lock is a POSIX record lock on one byte of an empty file: byte 0 is the mutex, behind which one process at a time
looks at what is there and takes its pieces; byte 1 + k is piece k. So thousands of pieces need one open file, a lock
dies with its process however that ends, and several machines may share a file system that has such locks (NFS does).
File systems without locks go unguarded. The file stays: removing one that others may be opening would split them.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from mixstyle.pipeline.core.errors import MixstyleError

_DOOR = 0
_LENGTH_OF_ALL = 0  # lockf: to the end of the file and whatever it may grow to
_HELD = {errno.EACCES, errno.EAGAIN}

_open_here: set[Path] = set()
"""Record locks keep processes apart, not threads, and closing one handle drops those of all: one holder a file."""


class ShardLocks:
    """The locks of this process on the pieces of what stands at `path`; the lock file stands beside it.

    what: the command, for messages. Use it in a `with`: all that was taken is given back at its end.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._file = path.with_name(f".{path.name}.lock").absolute()

    def __enter__(self) -> "ShardLocks":
        if self._file in _open_here:
            raise self.refusal()
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(self._file, os.O_CREAT | os.O_RDWR, 0o644)
        _open_here.add(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open_here.discard(self._file)
        os.close(self._handle)

    def refusal(self) -> MixstyleError:
        """What to raise where another process holds all that is wanted."""
        return MixstyleError(f"{self._path}: another `{self._what}` is writing it; wait for it or stop it")

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Waits until no other process is behind the mutex, and keeps them out until the end of the block."""
        self._lock(_DOOR, 1, wait=True)
        try:
            yield
        finally:
            self._unlock(_DOOR, 1)

    def take(self, pieces: Iterable[int]) -> list[int]:
        """ShardLocks those of some pieces that no other process holds, and returns them in their order."""
        return [piece for piece in pieces if self._lock(1 + piece, 1)]

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Holds every piece there is or may be. Raises MixstyleError where another process holds one."""
        if not self._lock(1, _LENGTH_OF_ALL):
            raise self.refusal()
        try:
            yield
        finally:
            self._unlock(1, _LENGTH_OF_ALL)

    def _lock(self, start: int, length: int, wait: bool = False) -> bool:
        try:
            fcntl.lockf(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), length, start)
        except OSError as error:
            return error.errno not in _HELD  # else a file system without locks
        return True

    def _unlock(self, start: int, length: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._handle, fcntl.LOCK_UN, length, start)
