"""A tree of small files behind a URL, copied as a whole to a working folder of this machine.

What reads such an output reads the copy, and needs no server for it: processes that were forked read it too. What
writes it writes a file of the copy first, and keeps that as an object of the same name. The processes of a machine
share the copy and take turns at it (`RemoteTree.turn`): outside of turns it holds nothing that is not kept, but for
what a killed process has left, which the next look removes.
"""

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from mixstyle.cache.storage.atomic import own_partial
from mixstyle.cache.storage.locks import turn
from mixstyle.cache.storage.place import AT_ONCE, Place, RemotePlace, working_folder
from mixstyle.cache.storage.remote_store import Stored
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.user_cache import user_cache
from mixstyle.cache.storage.writable import make_folder
from mixstyle.pipeline.core.errors import MixstyleError

Known = tuple[str, int, int, int]
"""Of a file of the copy: tag and length of the object that it is of, its own length, and its time of change in ns."""
LOOKS = 5
"""What was there at a look may be gone when it is read, as a part of an index that another machine has merged."""


class RemoteTree(RemotePlace):
    """Objects below a URL. folder: the copy. is_ours: which names belong to the output; nothing else is touched.

    root: the name without which there is no output, whatever else is there; it is kept last and removed first.
    """

    def __init__(self, url: str, folder: Path, is_ours: Callable[[str], bool], root: str) -> None:
        super().__init__(url, folder, is_ours)
        self._is_ours, self._root = is_ours, root
        self._known: dict[str, Known] = {}

    def turn(self) -> AbstractContextManager[object]:
        return self._turn()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with turn(self.folder.with_name(f".{self.folder.name}.turn")):
            yield
            self._write_known()

    def refresh(self) -> None:
        """Brings the copy up to what is kept; where there is no root, the copy is empty.

        Raises MixstyleError ("in-use") where others remove, look after look, what was there a moment ago.
        """
        for _ in range(LOOKS):
            try:
                self._refresh()
                return
            except MixstyleError as error:
                if error.code != "not-found":
                    raise
        raise MixstyleError(
            f"{self.name}: another process changes it while it is read; when that has ended, run the command again",
            code="in-use",
        )

    def _refresh(self) -> None:
        with self.turn():
            there = self.store.listed()
            ours = {name: stored for name, stored in there.items() if self._is_ours(name)}
            self.foreign = bool(there) and not ours
            self._known = self._read_known()
            self._there = ours if self._root in ours else {}
            self._sizes = {name: stored.size for name, stored in self._there.items()}
            make_folder(self.folder)
            for path in [path for path in self.folder.rglob("*") if path.is_file()]:
                name = path.relative_to(self.folder).as_posix()
                if self._is_ours(name) and name not in self._there:
                    path.unlink(missing_ok=True)
                    self._copied.pop(name, None)
            for folder in {(self.folder / name).parent for name in self._there}:
                folder.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(self._copy, self._there))

    def begin(self, made: Path) -> bool:
        """Keeps a tree that was made elsewhere on this machine, the root by a conditional put at the end.

        False where another one was faster: it stays, and the copy is that one.
        """
        names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file())
        with self.turn():
            shutil.rmtree(self.folder, ignore_errors=True)
            self._known = {}
            shutil.copytree(made, self.folder)
            with ThreadPoolExecutor(AT_ONCE) as threads:
                list(threads.map(self.keep, [name for name in names if name != self._root]))
            first = self.keep_first(self._root)
        if not first:
            self.refresh()
        return first

    def clear(self) -> None:
        with self.turn():
            ours = [name for name in self.store.listed() if self._is_ours(name)]
            self.store.remove(sorted(ours, key=lambda name: (name != self._root, name)))
            shutil.rmtree(self.folder, ignore_errors=True)
            self._there, self._sizes, self._copied, self._known = {}, {}, {}, {}

    def _copy(self, name: str) -> None:
        stored = self._there[name]
        if self._known.get(name) == (*_told(stored), *_stamp(self.folder / name)):
            return
        super()._copy(name)
        self._known[name] = (*_told(stored), *_stamp(self.folder / name))

    def _noted(self, name: str, data: bytes) -> None:
        super()._noted(name, data)
        if name in self._there:
            self._known[name] = (*_told(self._there[name]), *_stamp(self.folder / name))

    def _read_known(self) -> dict[str, "Known"]:
        """Which objects the files of the copy are of, as the last turn left them; nothing where that cannot be read."""
        try:
            stored = json.loads(self._list.read_bytes())
            return {
                str(name): (str(tag), int(size), int(own), int(time)) for name, (tag, size, own, time) in stored.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _write_known(self) -> None:
        known = {name: self._known[name] for name in sorted(self._known) if name in self._there}
        if known == self._read_known():
            return
        with contextlib.suppress(OSError):  # without it the files themselves are looked at
            temporary = own_partial(self._list)
            temporary.write_text(json.dumps(known))
            temporary.replace(self._list)

    @property
    def _list(self) -> Path:
        return self.folder.with_name(f".{self.folder.name}.known.json")

    def take_away(self, *names: str) -> None:
        super().take_away(*(name for name in names if name in self._there))  # each removal is a request
        for name in names:
            (self.folder / name).unlink(missing_ok=True)


def _told(stored: Stored) -> tuple[str, int]:
    return stored.tag, stored.size


def _stamp(path: Path) -> tuple[int, int]:
    """Length and time of change of a file; no file has those of one that is not there."""
    try:
        found = path.stat()
    except OSError:
        return -1, 0
    return found.st_size, found.st_mtime_ns


def tree_place(
    where: Path | str | Place, cache_dir: Path | None, copies: str, is_ours: Callable[[str], bool], root: str
) -> Place:
    """The place of an output. where: a folder, a URL or the place itself. Nothing is looked at yet.

    cache_dir: where copies of what is behind URLs are; None: in the user's cache. copies: the folder in there for
    outputs of this kind. is_ours, root: as `RemoteTree` has them.
    """
    if isinstance(where, Place):
        return where
    url = url_of(where)
    if not url:
        return Place(Path(where))
    return RemoteTree(url, working_folder(url, (cache_dir or user_cache("remote")) / copies), is_ours, root)
