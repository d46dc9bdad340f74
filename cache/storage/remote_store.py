"""Objects behind a URL (`s3://`, `gs://`, whatever fsspec knows): listed, read by ranges, published whole.

There is no rename there, and no lock. So an object is written once and never changed in place, but for small ones that
follow from others: its name holds its hash (`publish`), or it is created only where nothing is there (`create`, a
conditional put). A put is all or nothing on such stores; every length is checked anyway, of what is read and of
what was written. Servers that stumble are asked again, which is harmless: an answer that was lost shows in what is
there.
"""

import hashlib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from mixstyle.pipeline.core.errors import MixstyleError, one_line

T = TypeVar("T")
TRIES = 5
WAIT_S = 0.5
"""Before the second try; each later one waits twice as long."""
_ASKED_AT_ONCE = 8
"""Objects that are asked about at the same time."""
BLOCK_BYTES = 16 << 20
"""What is asked for, or sent, at once of a large object."""
_KEYS = ("ETag", "etag", "md5Hash", "content_md5", "LastModified", "last_modified", "mtime", "created", "updated")
CLOSE_S = 10.0
"""What closing connections may take: fsspec itself gives up after a second, and aiohttp then tells of open ones."""
_open: "weakref.WeakSet[Any]" = weakref.WeakSet()
_inherited: list[Any] = []
"""File systems of a process before it forked: thrown away here, they would close what is the other process's."""
os.register_at_fork(after_in_child=lambda: _inherited.extend(_open))
_NO_KEYS = ("Credentials", "credentials")


@dataclass(frozen=True, slots=True)
class Stored:
    """An object: its length in bytes, and a text that changes with its content (its ETag where it has one)."""

    size: int
    tag: str


class RemoteStore:
    """What is kept below a URL. Threads may share it; after a fork each process connects again.

    All methods raise MixstyleError, naming the URL: "remote" for a server that does not answer, refuses, or gives
    less than it says; "not-found" for what is not there; "no-package" and "bad-setting" for URLs that cannot be opened.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._opened: tuple[int, Any] = (0, None)

    @property
    def fs(self) -> Any:
        """The file system, one for each process: threads and connections do not survive a fork."""
        if self._opened[0] != os.getpid():
            self._opened = (os.getpid(), open_file_system(self.url))
        return self._opened[1]

    def path(self, name: str) -> str:
        """An object's path, as the file system has it."""
        root = self.fs._strip_protocol(self.url)
        return f"{root}/{name}" if name else root

    def listed(self, deep: bool = True) -> dict[str, Stored]:
        """All objects below the URL by their names relative to it; none where there is nothing.

        deep: else those of folders below it are left out.
        """

        def look() -> dict[str, Any]:
            self.fs.invalidate_cache()
            try:
                if deep:
                    return self.fs.find(self.path(""), detail=True)
                return {entry["name"]: entry for entry in self.fs.ls(self.path(""), detail=True)}
            except FileNotFoundError:
                return {}

        root = f"{self.path('')}/"
        found = {
            name.removeprefix(root): _stored(entry) if entry.get("size") is not None else None
            for name, entry in sorted(self.tried(look, self.url).items())
            if entry.get("type") != "directory" and name.startswith(root) and name != root
        }
        # a web server's page of a folder has names alone
        unknown = [name for name, stored in found.items() if stored is None]
        with ThreadPoolExecutor(_ASKED_AT_ONCE) as threads:
            found |= zip(unknown, threads.map(self.stored, unknown), strict=True)
        return {name: stored for name, stored in found.items() if stored is not None}

    def stored(self, name: str) -> Stored | None:
        """What is known of an object; None where it is not there."""

        def look() -> Stored | None:
            try:
                self.fs.invalidate_cache()
                entry = self.fs.info(self.path(name))
                return _stored(entry) if entry.get("type") != "directory" else None
            except FileNotFoundError:
                return None

        return self.tried(look, self._named(name))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Bytes start to stop of an object, all of it without `stop`. Never less than was asked for."""
        if stop is None:
            return b"".join(self._blocks(name, self._known(name).size))
        path = self.path(name)

        def ask() -> bytes:
            data = self.fs.cat_file(path, start=start, end=stop)
            if len(data) != stop - start:
                raise EOFError(f"{len(data)} bytes of {stop - start}")
            return data

        return self.tried(ask, self._named(name)) if stop > start else b""

    def sha256(self, name: str, size: int) -> str:
        """64 hex digits of the first `size` bytes of an object, read block by block."""
        digest = hashlib.sha256()
        for block in self._blocks(name, size):
            digest.update(block)
        return digest.hexdigest()

    def download(self, name: str, target: Path) -> None:
        """Writes an object to a file of this machine. An object that is replaced meanwhile is read again."""
        for _ in range(TRIES):
            before = self._known(name)
            with target.open("wb") as file:
                file.writelines(self._blocks(name, before.size))
            if before.size <= BLOCK_BYTES or self._known(name) == before:
                return
        raise MixstyleError(f"{self._named(name)}: changes while it is read", code="remote")

    def create(self, name: str, data: bytes) -> bytes:
        """Writes a small object where none is. What is there then: `data`, or what another one was faster with."""

        def put() -> None:
            try:
                self.fs.pipe_file(self.path(name), data, mode="create")
            except FileNotFoundError:
                raise
            except OSError:  # "there is one" has no error of its own: a lost answer and another's object look alike
                if self.stored(name) is None:
                    raise

        self.tried(put, self._named(name), "written")
        return self.read(name)

    def replace(self, name: str, data: bytes) -> None:
        """Writes a small object, whatever is there."""

        def put() -> None:
            self.fs.pipe_file(self.path(name), data)
            self._check_size(name, len(data))

        self.tried(put, self._named(name), "written")

    def publish(self, file: Path, name: str) -> None:
        """Writes a file of this machine to an object whose name holds its hash: what is there already is the same."""
        size = file.stat().st_size
        parts = {"chunksize": BLOCK_BYTES} if "s3" in self.fs.protocol else {}
        if (there := self.stored(name)) is not None and there.size == size:
            return

        def put() -> None:
            self.fs.put_file(str(file), self.path(name), **parts)
            self._check_size(name, size)

        self.tried(put, self._named(name), "written")

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, one after the other in their order; those that are gone count as removed."""
        for name in names:

            def gone(path: str = self.path(name)) -> None:
                try:
                    self.fs.rm_file(path)
                except FileNotFoundError:
                    self.fs.invalidate_cache()

            self.tried(gone, self._named(name), "removed")

    def tried(self, work: Callable[[], T], what: str, done: str = "read") -> T:
        """What `work` gives; a server that stumbles is asked again. what, done: for messages."""
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT_S * 2 ** (attempt - 1))
            try:
                return work()
            except MixstyleError:
                raise
            except FileNotFoundError as error:
                why = "not there" if done == "read" else f"cannot be {done}: there is no such bucket; make it first"
                raise MixstyleError(f"{what}: {why}", code="not-found") from error
            except PermissionError as error:
                raise MixstyleError(f"{what}: may not be {done} with these credentials", code="remote") from error
            except NotImplementedError as error:
                raise MixstyleError(f"{what}: cannot be {done}: such URLs are only read", code="remote") from error
            except Exception as error:
                why = one_line(error, 160)
                if any(word in f"{type(error).__name__} {why}" for word in _NO_KEYS):
                    raise MixstyleError(
                        f"{what}: cannot be {done} without credentials ({why}); set AWS_ACCESS_KEY_ID and "
                        "AWS_SECRET_ACCESS_KEY, or FSSPEC_S3='{\"anon\": true}' for a public bucket; to see more,",
                        code="remote",
                        remedy=("doctor",),
                    ) from error
        raise MixstyleError(f"{what}: cannot be {done} ({why})", code="remote")

    def _blocks(self, name: str, size: int) -> Iterator[bytes]:
        """The first `size` bytes of an object, block by block."""
        for start in range(0, size, BLOCK_BYTES):
            yield self.read(name, start, min(size, start + BLOCK_BYTES))

    def _known(self, name: str) -> Stored:
        found = self.stored(name)
        if found is None:
            raise MixstyleError(f"{self._named(name)}: not there", code="not-found")
        return found

    def _check_size(self, name: str, size: int) -> None:
        there = self.stored(name)
        if there is None or there.size != size:
            raise EOFError(f"{there.size if there else 0} bytes of {size} are there")

    def _named(self, name: str) -> str:
        return f"{self.url}/{name}" if name else self.url


def open_file_system(url: str) -> Any:
    """fsspec's file system of a URL. Raises MixstyleError ("no-package", "bad-setting")."""
    import fsspec  # not for commands on folders

    try:
        # fsspec keeps one file system for equal arguments, with the endpoint that the environment named back then
        opened = fsspec.core.url_to_fs(url, skip_instance_cache=True)[0]
    except ImportError as error:
        wanted = "mixstyle[s3]" if url.startswith(("s3:", "s3a:")) else "the package that it names"
        raise MixstyleError(f'{url}: {error}; run: pip install "{wanted}"', code="no-package") from error
    except ValueError as error:
        raise MixstyleError(f"{url}: {error}", code="bad-setting") from error
    if hasattr(opened, "close_session"):  # what fsspec calls when a file system is thrown away, or the process ends
        opened.close_session = _closing()
    _open.add(opened)
    return opened


def _closing() -> Callable[..., None]:
    """What closes the connections of a file system that this process opens, and waits until they are closed."""
    process = os.getpid()

    def close(loop: Any, session: Any, *_: Any) -> None:
        if os.getpid() != process or loop is None or not loop.is_running():
            return
        import asyncio  # a tenth of a second, and there already where there is a loop

        closing = asyncio.run_coroutine_threadsafe(session.__aexit__(None, None, None), loop)
        if threading.get_ident() != loop._thread_id:  # the loop's own thread cannot wait for itself
            with suppress(Exception):
                closing.result(CLOSE_S)

    return close


def _stored(entry: dict[str, Any]) -> Stored:
    tag = next((str(entry[key]) for key in _KEYS if entry.get(key)), "")
    return Stored(int(entry.get("size") or 0), tag.strip('"'))
