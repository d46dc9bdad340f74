"""Music behind a URL: what there is, ends of files for their hashes, and whole files on this machine to decode.

Files are named by paths that stand for URLs (`mixstyle.cache.storage.urls`), so that a track's file is its root and its
relative path wherever the root is. Hashes read as little of a file as they do on a disk. To be decoded a file is copied
to the temporary folder, whole: its content's hash reads all of it anyway.
"""

import io
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import BinaryIO, cast

from mixstyle.cache.music.file_view import SizedReader
from mixstyle.cache.storage.remote_store import RemoteStore, Stored
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError

BLOCK_BYTES = 64 << 10
"""What is asked for at once of a file's ends."""
KEPT_BLOCKS = 4
LOOKERS = 16
"""Threads that look at files' ends: nearly all of their time is waiting."""


@lru_cache(maxsize=16)
def _store(url: str) -> RemoteStore:
    """One file system, and its connections, for all files of a bucket."""
    return RemoteStore(url)


def _place_of(path: Path) -> tuple[str, str]:
    """A URL's bucket, as a URL, and the name in it."""
    scheme, _, rest = url_of(path).partition("://")
    bucket, _, name = rest.partition("/")
    return f"{scheme}://{bucket}", name


def sizes_below(root: Path) -> dict[str, int]:
    """Bytes of all files below a URL by their relative paths; names that begin with a dot are left out, as on a disk.

    Raises MixstyleError as `RemoteStore` does.
    """
    found = RemoteStore(url_of(root)).listed()
    return {
        name: stored.size
        for name, stored in found.items()
        if name and not name.endswith("/") and not any(part.startswith(".") for part in name.split("/"))
    }


class RemoteFile:
    """A file behind a URL, as far as the hashes of `content_hash` need one. Equal for equal URLs."""

    def __init__(self, path: Path) -> None:
        self._of = _place_of(path)
        self._store, self._name = _store(self._of[0]), self._of[1]

    def __hash__(self) -> int:
        return hash(self._of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemoteFile) and other._of == self._of

    def is_file(self) -> bool:
        return self._stored is not None

    def stat(self) -> SimpleNamespace:
        """Length and identity, under the names of `os.stat_result`. Raises FileNotFoundError."""
        return SimpleNamespace(st_size=self._size(), st_dev="url", st_ino=self._of)

    def open(self, mode: str = "rb") -> BinaryIO:
        """The file's bytes, read by blocks as they are asked for. Raises FileNotFoundError."""
        raw = _Blocks(self._store, self._name, self._size())
        return cast(BinaryIO, io.BufferedReader(raw, BLOCK_BYTES if mode == "rb" else 0))

    def _size(self) -> int:
        if self._stored is None:
            raise FileNotFoundError(self._name)
        return self._stored.size

    @cached_property
    def _stored(self) -> Stored | None:
        return self._store.stored(self._name)


def opened(path: Path) -> Path | RemoteFile:
    """A path of this machine as it is; one that stands for a URL as a file behind it."""
    return RemoteFile(path) if url_of(path) else path


@contextmanager
def on_this_machine(files: Mapping[str, Path]) -> Iterator[Mapping[str, Path]]:
    """A track's files where decoders can open them: those behind URLs are copied, and the copies end with the block.

    A file that is not there is named anyway, for the decoder to tell. Raises MixstyleError ("remote") where the
    server gives no answer: that says nothing about the music.
    """
    remote = {stem: path for stem, path in files.items() if url_of(path)}
    if not remote:
        yield files
        return
    with tempfile.TemporaryDirectory(prefix="mixstyle-music-") as folder:
        copies = dict(files)
        for place, (stem, path) in enumerate(remote.items()):
            bucket, name = _place_of(path)
            # a short name: a URL's may be longer than a file's. Its ending tells some decoders what it is.
            copies[stem] = Path(folder) / f"{place}{PurePosixPath(name).suffix}"
            try:
                _store(bucket).download(name, copies[stem])
            except MixstyleError as error:
                if error.code != "not-found":
                    raise
                copies[stem].unlink(missing_ok=True)
        yield copies


class Looking:
    """`map` by threads, for functions that wait for a server. A context manager."""

    def __enter__(self) -> ThreadPoolExecutor:
        self._threads = ThreadPoolExecutor(LOOKERS, thread_name_prefix="look")
        return self._threads

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)


class _Blocks(SizedReader):
    """A file whose blocks are asked for one by one; the last few are kept."""

    def __init__(self, store: RemoteStore, name: str, size: int) -> None:
        super().__init__(size)
        self._store, self._name = store, name
        self._kept: dict[int, bytes] = {}

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        view = memoryview(buffer)
        start = self._place - self._place % BLOCK_BYTES
        block = self._block(start)[self._place - start :][: len(view)]
        view[: len(block)] = block
        self._place += len(block)
        return len(block)

    def _block(self, start: int) -> bytes:
        if start not in self._kept:
            if start >= self._size:
                return b""
            while len(self._kept) >= KEPT_BLOCKS:
                del self._kept[next(iter(self._kept))]
            self._kept[start] = self._store.read(self._name, start, min(self._size, start + BLOCK_BYTES))
        return self._kept[start]
