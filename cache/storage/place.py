"""Where a stage's output is kept: in a folder, or behind a URL with a working folder on this machine.

`Place` is a folder of this machine: what is written there is kept. `RemotePlace` has the same methods for objects
behind a URL. Its `folder` holds copies of what is small there (settings, sidecars, the manifest, the failure log), so
that all that reads an output reads a folder either way; what is large goes to the store and is not kept here.

The rules by which something appears in a store, where nothing is renamed and nothing locked:

1. What is large has its hash in its name and is written first (`publish`). Nobody changes it.
2. The small file that tells of it is created last, by a conditional put: the first one stays, and a process that comes
   second with the same part finds it done. A store that ignores the condition keeps the last one, which is as whole.
3. What is there is told by the store alone: `refresh` throws away copies of what is not there (any more).

So a process that is killed leaves objects that nothing names, and never a part that is taken for whole.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from mixstyle.cache.storage.as_stored import read_as_stored
from mixstyle.cache.storage.atomic import own_partial, publish, sha256_file
from mixstyle.cache.storage.remote_store import RemoteStore, Stored
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.writable import make_folder
from mixstyle.pipeline.core.errors import MixstyleError

AT_ONCE = 16
"""Small files that are fetched together."""


class Removable(Protocol):
    """An output that can be taken away: a path, or an object of a store."""

    @property
    def name(self) -> str: ...
    def exists(self) -> bool: ...
    def is_symlink(self) -> bool: ...
    def unlink(self, missing_ok: bool = False) -> None: ...


class Place:
    """A folder of this machine. name: what people call it."""

    is_remote = False
    foreign = False
    """Whether others' objects are there and none of ours, by the last look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    @property
    def sizes(self) -> Mapping[str, int] | None:
        """Bytes of what is kept by name, as it was at the last look; None where the folder itself tells."""
        return None

    def refresh(self) -> None:
        """Brings the folder up to what is kept."""

    def look(self, *names: str) -> None:
        """The same for a few names."""

    @contextmanager
    def writing(self) -> Iterator[Path]:
        """A folder to write a part to, before `publish`."""
        yield self.folder

    def publish(self, large: Path, name: str, teller: Path, fits: Callable[[bytes], bool]) -> None:
        """Keeps a large file under a name with its hash, and then the small file beside it that tells of it.

        fits: whether what another process told of the same part, and was faster with, may stay.
        """

    def sha256(self, name: str, size: int) -> str:
        """64 hex digits of what is kept under a name, which is so long."""
        return sha256_file(self.folder / name)

    def keep(self, name: str) -> None:
        """Keeps a small file of the folder as it is now."""

    def keep_first(self, name: str) -> bool:
        """Keeps a small file of the folder where none is kept; False where there is another: the folder has it now."""
        return True

    def turn(self) -> AbstractContextManager[object]:
        """Keeps other processes of this machine from the working folder, where there is one."""
        return nullcontext()

    def clear(self) -> None:
        """Removes all that is kept."""
        # Renamed first: a run killed while deleting must not leave half of it under its name.
        condemned = self.folder.with_name(f".{self.folder.name}.condemned")
        shutil.rmtree(condemned, ignore_errors=True)
        self.folder.rename(condemned)
        shutil.rmtree(condemned)

    def mark(self, name: str) -> None:
        """Makes an empty file."""
        (self.folder / name).touch()

    def take_away(self, *names: str) -> None:
        """Removes files in this order, as far as they are there."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def outputs(self, prefixes: Sequence[str]) -> list[Removable]:
        """What is kept under names that begin so, for `guard` to remove."""
        return [path for prefix in prefixes for path in sorted(self.folder.glob(f"{prefix}*"))]

    @contextmanager
    def told(self) -> Iterator[None]:
        """Has errors of what is done inside name the place, where they name its working folder."""
        yield


class RemotePlace(Place):
    """Objects behind a URL. folder: the working folder. is_small: which names are copied there.

    Methods raise MixstyleError as `RemoteStore` does.
    """

    is_remote = True

    def __init__(self, url: str, folder: Path, is_small: Callable[[str], bool]) -> None:
        super().__init__(folder)
        self.store = RemoteStore(url)
        self.name = self.store.url
        self._is_small = is_small
        self._looked = False
        self._there: dict[str, Stored] = {}
        self._sizes: dict[str, int] = {}
        self._copied: dict[str, tuple[Stored, str]] = {}

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def refresh(self) -> None:
        first = not self._looked
        self._there = self.store.listed(deep=False)
        self._sizes = {name: stored.size for name, stored in self._there.items()}
        self._looked = True
        make_folder(self.folder)
        if first:
            self._sweep()
        for path in self.folder.iterdir():
            # later only what this process knew: another one may be about to keep it
            if self._is_small(path.name) and path.name not in self._there and (first or path.name in self._copied):
                path.unlink(missing_ok=True)  # another process may have been faster
                self._copied.pop(path.name, None)
        wanted = [name for name in self._there if self._is_small(name)]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            list(threads.map(self._copy, wanted))

    def look(self, *names: str) -> None:
        for name in names:
            stored = self.store.stored(name)
            if stored is None:
                self._forget(name)
                continue
            self._there[name], self._sizes[name] = stored, stored.size
            if self._is_small(name):
                self._copy(name)

    @contextmanager
    def writing(self) -> Iterator[Path]:
        make_folder(self.folder)
        with TemporaryDirectory(prefix=f"{_making()}{os.getpid()}-", dir=self.folder) as folder:
            yield Path(folder)

    def publish(self, large: Path, name: str, teller: Path, fits: Callable[[bytes], bool]) -> None:
        self.store.publish(large, name)
        data = teller.read_bytes()
        there = self.store.create(teller.name, data)
        if there != data and not fits(there):
            self.store.replace(teller.name, data)
            there = data
        self._write(teller.name, there)
        self._noted(teller.name, there)
        self.look(name)

    def sha256(self, name: str, size: int) -> str:
        return self.store.sha256(name, size)

    def keep(self, name: str) -> None:
        data = (self.folder / name).read_bytes()
        known = self._there.get(name)
        if known is None or self._copied.get(name) != (known, _md5(data)):
            self.store.replace(name, data)
            self._noted(name, data)

    def keep_first(self, name: str) -> bool:
        data = (self.folder / name).read_bytes()
        there = self.store.create(name, data)
        if there != data:
            self._write(name, there)
        self._noted(name, there)
        return there == data

    def mark(self, name: str) -> None:
        (self.folder / name).write_bytes(b"\n")  # not every store keeps objects without content
        self.store.replace(name, b"\n")
        self._noted(name, b"\n")

    def take_away(self, *names: str) -> None:
        for name in names:
            self.store.remove([name])
            self._forget(name)

    def outputs(self, prefixes: Sequence[str]) -> list[Removable]:
        found = [name for name in self._there if name.startswith(tuple(prefixes))]
        # small files first: what they tell of must not go before them
        return [_Kept(self, name) for name in sorted(found, key=lambda name: (not self._is_small(name), name))]

    @contextmanager
    def told(self) -> Iterator[None]:
        try:
            yield
        except MixstyleError as error:
            said = [text.replace(str(self.folder), self.name) for text in (error.message, *error.remedy)]
            raise MixstyleError(said[0], code=error.code, remedy=said[1:]) from error

    def _sweep(self) -> None:
        """Removes what killed processes of this machine were writing."""
        for folder in self.folder.glob(f"{_making()}*"):
            pid = folder.name.removeprefix(_making()).partition("-")[0]
            if pid.isdecimal() and not Path(f"/proc/{pid}").exists() and Path("/proc/self").exists():
                shutil.rmtree(folder, ignore_errors=True)

    def _noted(self, name: str, data: bytes) -> None:
        """Remembers how an object is that this process wrote."""
        if (stored := self.store.stored(name)) is not None:
            self._there[name], self._sizes[name] = stored, stored.size
            self._copied[name] = (stored, _md5(data))

    def _copy(self, name: str) -> None:
        """Fetches a small object, unless its copy is up to date."""
        path, stored = self.folder / name, self._there[name]
        if path.is_file():
            if self._copied.get(name, (None, ""))[0] == stored:
                return
            digest = _md5(path.read_bytes())
            if digest == stored.tag:  # which is an object's MD5 on most stores, where it was put whole
                self._copied[name] = (stored, digest)
                return
        data = read_as_stored(self.store, name, stored.tag)
        self._write(name, data)
        self._copied[name] = (stored, _md5(data))

    def _write(self, name: str, data: bytes) -> None:
        """Writes a copy. Several processes may, each under a temporary name of its own."""
        temporary = own_partial(self.folder / name)
        try:
            temporary.write_bytes(data)
            publish(temporary, self.folder / name)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)  # half a copy on a full disk
            raise

    def _forget(self, name: str) -> None:
        """Drops what is known of an object that is gone, and its copy."""
        self._there.pop(name, None)
        self._sizes.pop(name, None)
        self._copied.pop(name, None)
        if self._is_small(name):
            (self.folder / name).unlink(missing_ok=True)


class _Kept:
    """An object of a store, as what `guard` removes."""

    def __init__(self, place: RemotePlace, name: str) -> None:
        self._place, self.name = place, name

    def exists(self) -> bool:
        return True

    def is_symlink(self) -> bool:
        return False

    def unlink(self, missing_ok: bool = False) -> None:
        self._place.take_away(self.name)


def place_of(location: Path, cache_dir: Path, is_small: Callable[[str], bool]) -> Place:
    """A folder, or what is behind a URL. cache_dir: where working folders of URLs are. is_small: see `RemotePlace`."""
    url = url_of(location)
    return RemotePlace(url, working_folder(url, cache_dir), is_small) if url else Place(location)


def working_folder(url: str, cache_dir: Path) -> Path:
    """The folder on this machine that belongs to a URL."""
    return cache_dir / hashlib.sha256(url.rstrip("/").encode()).hexdigest()[:16]


def _making() -> str:
    """What names of folders that a process of this machine writes to begin with."""
    return f".making-{os.uname().nodename}-"


def _md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()
