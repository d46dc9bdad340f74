"""Locks between processes: on a folder that one process at a time writes, and on the shards that several share out.

`locked` holds a whole folder. `ShardLocks` holds numbered shards, so that several processes work at once and no two at
the same shard. All are POSIX record locks, which end with their process however that ends: forked processes that go on
for a moment do not inherit them, as they do locks of flock(2). A shard's lock is on one byte of an empty file: byte 0
is the mutex, under which one process at a time looks at what is there and takes its shards; byte 1 + k is shard k. So
thousands of shards need one open file, and several machines may share a file system that has such locks (NFS does).
File systems without locks go unguarded, with a warning. The file stays: removing one that others may be opening would
split them. Only `locked` takes one away, with the folder that it was made in, and looks whether it holds the one that
is there.
"""

import contextlib
import errno
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from mixstyle.cache.storage.writable import cannot_write, check_folder, make_folder
from mixstyle.pipeline.core.errors import MixstyleError

_MUTEX = 0
_LENGTH_OF_ALL = 0  # lockf: to the end of the file and whatever it may grow to
_HELD = {errno.EACCES, errno.EAGAIN}

_open_here: set[Path] = set()
"""Record locks keep processes apart, not threads, and closing one handle drops those of all: one holder a file."""


_warned: set[Path] = set()


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """Holds `<folder>/.lock` so that one process at a time writes there; the lock dies with its process.

    what: the command, for the message. Folders that were not there before go again, with the lock in them, where a
    MixstyleError ends the work before anything else is there. Raises MixstyleError (code "in-use") when another process
    holds the lock, and "cannot-write" where the folder takes no files. File systems without locks go unguarded, with a
    warning.
    """
    path = (folder / ".lock").absolute()
    refused = MixstyleError(f"{folder}: another `{what}` is writing there; wait for it or stop it", code="in-use")
    if path in _open_here:
        raise refused
    new = [place for place in (path.parent, *path.parent.parents) if not place.exists()]
    handle, taken = _opened(path), False
    _open_here.add(path)
    try:
        taken = _taken(handle, path) and _is_at(path, handle)
        if not taken:
            raise refused
        yield
    except MixstyleError:
        if taken and new and is_guarded(path):
            _take_away(path, new)
        raise
    finally:
        _open_here.discard(path)
        os.close(handle)


def _is_at(path: Path, handle: int) -> bool:
    """Whether an open file is still the one at a path: another process may have taken that away."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _take_away(lock: Path, folders: Sequence[Path]) -> None:
    """Removes a lock that this process holds and its folder, and those above it, if nothing else is there."""
    with contextlib.suppress(OSError):
        if os.listdir(lock.parent) == [lock.name]:  # noqa: PTH208 (names alone)
            lock.unlink()
            for folder in folders:
                folder.rmdir()


def _taken(handle: int, path: Path) -> bool:
    """Locks an open file; whether no other process has it."""
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # processes of versions before lock by flock(2): looked for, and not kept, for forked processes would inherit it
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(handle, fcntl.LOCK_UN)
    except OSError as error:
        if error.errno in _HELD:
            return False
        _warn(path)
    return True


def is_guarded(lock: Path) -> bool:
    """Whether a lock file that this process has tried to lock is where locks work: else others may be at work too."""
    return lock.absolute() not in _warned


def _warn(path: Path) -> None:
    """Tells once a process that a lock file is on a file system without locks."""
    if is_guarded(path):
        _warned.add(path.absolute())
        print(
            f"mixstyle: warning: {path.parent} has a file system without locks; let one process at a time write there",
            file=sys.stderr,
            flush=True,
        )


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

    @property
    def guards(self) -> bool:
        """Whether the locks that were asked for keep others away, which they do not on all file systems."""
        return is_guarded(self._file)

    def refusal(self) -> MixstyleError:
        """The error to raise if another process holds everything that is needed."""
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

    def give_back(self, shards: Iterable[int]) -> None:
        """Unlocks shards that this process took."""
        for shard in shards:
            self._unlock(1 + shard, 1)

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
            if error.errno in _HELD:
                return False
            _warn(self._file)
        return True

    def _unlock(self, start: int, length: int) -> None:
        with contextlib.suppress(OSError):
            fcntl.lockf(self._handle, fcntl.LOCK_UN, length, start)


@contextlib.contextmanager
def turn(file: Path) -> Iterator[None]:
    """Waits until no other process of this machine holds the lock file, and holds it until the end of the block.

    Not to be nested in one process. Raises MixstyleError as `locked` does.
    """
    handle = _opened(file.absolute())
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX)
        except OSError:
            _warn(file)
        yield
    finally:
        os.close(handle)


def _opened(lock: Path) -> int:
    """A handle of a lock file. Raises MixstyleError (cannot-write) where its folder takes no files, or no bytes."""
    make_folder(lock.parent)
    check_folder(lock.parent)
    try:
        return os.open(lock, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        raise cannot_write(lock, error) from error
