"""Locks between processes: on a folder that one process at a time writes, and on the shards that several share out.

`locked` holds a whole folder. `ShardLocks` holds numbered shards, so that several processes work at once and no two at
the same shard. A shard's lock is a POSIX record lock on one byte of an empty file: byte 0 is the mutex, under which one
process at a time looks at what is there and takes its shards; byte 1 + k is shard k. So thousands of shards need one
open file, a lock ends with its process however that ends, and several machines may share a file system that has such
locks (NFS does). File systems without locks go unguarded. The file stays: removing one that others may be opening would
split them.
"""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

from mixstyle.cache.storage.writable import cannot_write, check_folder, make_folder
from mixstyle.pipeline.core.errors import MixstyleError

_MUTEX = 0
_LENGTH_OF_ALL = 0  # lockf: to the end of the file and whatever it may grow to
_HELD = {errno.EACCES, errno.EAGAIN}

_open_here: set[Path] = set()
"""Record locks keep processes apart, not threads, and closing one handle drops those of all: one holder a file."""


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Holds `<folder>/.lock` so that one process at a time writes there; the lock dies with its process.

    what: the command, for the message. Raises MixstyleError (code "in-use") when another process holds
    it, and (cannot-write) where the folder cannot be written. File systems without locks go unguarded.
    """
    handle = _opened(folder / ".lock")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MixstyleError(
                f"{folder}: another `{what}` is writing there; wait for it or stop it", code="in-use"
            ) from None
        except OSError:
            pass  # network file systems without locks
        yield
    finally:
        os.close(handle)


class ShardLocks:
    """The locks of this process on the shards of what is at `path`; the lock file is beside it.

    what: the command, for messages. Use it in a `with`: all locks are given back at its end.
    """

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._file = path.with_name(f".{path.name}.lock").absolute()

    def __enter__(self) -> "ShardLocks":
        if self._file in _open_here:
            raise self.refusal()
        self._handle = _opened(self._file)
        _open_here.add(self._file)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _open_here.discard(self._file)
        os.close(self._handle)

    def refusal(self) -> MixstyleError:
        """What to raise where another process holds all that is wanted."""
        return MixstyleError(
            f"{self._path}: another `{self._what}` is writing it; wait for it or stop it", code="in-use"
        )

    @contextlib.contextmanager
    def mutex(self) -> Iterator[None]:
        """Waits until no other process holds the mutex, and holds it until the end of the block."""
        self._lock(_MUTEX, 1, wait=True)
        try:
            yield
        finally:
            self._unlock(_MUTEX, 1)

    def take(self, shards: Iterable[int]) -> list[int]:
        """Locks those of some shards that no other process holds, and returns them in their order."""
        return [shard for shard in shards if self._lock(1 + shard, 1)]

    @contextlib.contextmanager
    def all(self) -> Iterator[None]:
        """Holds every shard there is or may be. Raises MixstyleError ("in-use") where another process holds one."""
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


def _opened(lock: Path) -> int:
    """A handle of a lock file. Raises MixstyleError (cannot-write) where its folder takes no files, or no bytes."""
    make_folder(lock.parent)
    check_folder(lock.parent)
    try:
        return os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise cannot_write(lock, error) from error
