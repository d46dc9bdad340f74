"""Folders that are kept behind a URL: a copy on this machine, files as objects that nobody changes, a manifest last.

`KeptFolder` is a folder of this machine, and all its methods do nothing. `RemoteFolder` has a working folder instead:
`fetch` makes it as the store has it, `send` makes the store as it is. In the store:

- `NAME.<16 hex digits>.SUFFIX`: a file, with the beginning of its SHA-256 in its name. Nobody changes it.
- `manifest-<8 digits>.json`, format version 1: `{"version": 1, "files": {name: {"bytes": ..., "sha256": ...}}}`, with a
  checksum of itself. The highest number counts. It is created by a conditional put after all that it names.

So a reader gets all files as they were at one moment, and a process that is killed leaves the last manifest and objects
that nothing names. Of two processes that write, the second finds its number taken, or itself overtaken, and ends. The
manifest before the last is kept with its files, for those who read it a moment ago, and where the last is damaged; what
is older is removed by the process that sends. Nothing is removed that another process may be about to name: only what
an older manifest named, and what was there before a manifest of ours, so that the process that sent it finds its number
taken.
"""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.storage.as_stored import differs, download_as_stored, read_as_stored
from mixstyle.cache.storage.atomic import json_with_checksum, own_partial, publish, read_json, sha256_file
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.place import working_folder
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.writable import make_folder
from mixstyle.pipeline.core.errors import MixstyleError

VERSION = 1
MOST_LOOKS = 20
"""At a folder that others send to: what was fetched stays, so that each look fetches what has changed since."""
SUFFIXES = (".pt", ".safetensors", ".json", ".csv", ".parquet", ".npz", ".png", ".html")
"""Of the files that are kept; others, and those whose names begin with a dot, stay on this machine."""
_MANIFEST = re.compile(r"manifest-(\d{8})\.json")
_OBJECT = re.compile(rf".+\.[0-9a-f]{{16}}({'|'.join(map(re.escape, SUFFIXES))})")

_names: dict[str, str] = {}
"""Working folders of this process, and their URLs."""


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of a manifest. sha256: 64 hex digits."""

    size: int
    sha256: str


class KeptFolder:
    """A folder of this machine. name: what people call it."""

    is_remote = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)

    def fetch(self, *names: str, left_out: list[str] | None = None, rebuild: bool = False) -> None:
        """Makes the folder as it is kept. names: those files alone.

        left_out: takes a line for each file that is not there or not what was sent; without it such a file is raised.
        rebuild: all of it is to be made again, so nothing of the kind is raised.
        """

    def send(self) -> None:
        """Keeps the folder as it is now."""

    def show(self, *names: str) -> None:
        """Has files of these names under them where the folder is kept, for people; after `send`."""

    def turn(self, what: str) -> AbstractContextManager[None]:
        """Keeps other processes of this machine from a working folder. what: the command, for the message."""
        return nullcontext()


class RemoteFolder(KeptFolder):
    """A folder behind a URL. folder: the working folder; one process at a time sends from it, and locks it.
    leave: files of it that are not kept, since they follow from others.

    Methods raise MixstyleError as `RemoteStore` does, which includes "remote" for a folder that others change all the
    while, and "damaged-file" for what is not what was sent.
    """

    is_remote = True

    def __init__(self, url: str, folder: Path, leave: Collection[str] = ()) -> None:
        super().__init__(folder)
        self.store = RemoteStore(url)
        self.name = self.store.url
        self.files: dict[str, KeptFile] = {}
        """What the last manifest names, as of the last look."""
        self.damage: MixstyleError | None = None
        """The last manifest is damaged; `files` is of the one before."""
        self._leave = leave
        self._all_here = False
        self._number = 0
        self._before: dict[str, KeptFile] = {}
        self._unnamed: set[str] = set()
        self._wrong_objects: set[str] = set()
        self._hashed: dict[str, tuple[tuple[int, int, int], str]] = {}
        name_by_url(folder, self.name)

    def look(self) -> None:
        """Reads the manifests. `files` is empty where there is none, or where none can be read: `damage` tells that."""
        for _ in range(MOST_LOOKS):
            listed = self.store.listed(deep=False)
            numbers = _numbers(listed)
            try:
                read = self._read(numbers[:2])
                break
            except MixstyleError as error:
                if error.code != "not-found":  # removed since it was listed: there is a newer one
                    raise
        else:
            raise self._changing()
        self._number = numbers[0] if numbers else 0
        self.files, self._before = (*read, {}, {})[:2]
        named = {object_name(name, kept) for files in read for name, kept in files.items()}
        self._unnamed = {name for name in listed if _OBJECT.fullmatch(name) and name not in named}

    def fetch(self, *names: str, left_out: list[str] | None = None, rebuild: bool = False) -> None:
        wrong: dict[str, MixstyleError] = {}
        for _ in range(MOST_LOOKS):
            before, wrong_before = self._number, self._objects_of(wrong)
            self.look()
            if self.damage is not None and not rebuild and (left_out is None or not self.files):
                raise self.damage
            if wrong and self._number == before:
                break
            make_folder(self.folder)
            wrong = self._fetch(names)
            if self._objects_of(wrong) <= wrong_before:  # what a newer manifest names too was not removed: it is lost
                break
        else:
            raise self._changing()
        if self.damage is not None and left_out is not None and not rebuild:
            left_out.append(f"{self.damage.message}; the one before it counts")
        self._all_here = not names
        for error in wrong.values():
            if left_out is None and not rebuild:
                raise error
            if left_out is not None:
                left_out.append(error.message)

    def send(self) -> None:
        if not self._all_here:
            raise ValueError("only what was fetched whole can be sent: other files would be forgotten")
        files = {path.name: self._kept(path) for path in sorted(self.folder.iterdir()) if self._is_kept(path)}
        self._mend(files)
        if files == self.files and self._number and self.damage is None:
            return
        for name, kept in files.items():
            if self.files.get(name) != kept:
                self.store.publish(self.folder / name, object_name(name, kept))
        self._tell(files)

    def _mend(self, files: Mapping[str, KeptFile]) -> None:
        """Sends again what was damaged, where it is to have the same bytes: an object of its name is taken for it."""
        for name, kept in files.items():
            if object_name(name, kept) in self._wrong_objects:
                self.store.remove([object_name(name, kept)])
                self.store.publish(self.folder / name, object_name(name, kept))
        self._wrong_objects = set()

    def show(self, *names: str) -> None:
        """Puts copies of files beside the objects, under the files' own names. No `RemoteFolder` reads them."""
        for name in names:
            kept = self.files.get(name)
            stored = self.store.stored(name)
            if kept is None:
                self.store.remove([name] if stored is not None else [])
            elif stored is None or stored.size != kept.size or self.store.sha256(name, kept.size) != kept.sha256:
                self.store.replace(name, (self.folder / name).read_bytes())

    def turn(self, what: str) -> AbstractContextManager[None]:
        return locked(self.folder, what)

    def forget(self, *names: str) -> None:
        """Keeps all but these files from now on, and removes their objects: they are damaged."""
        self.look()
        gone = [object_name(name, self.files[name]) for name in names if name in self.files]
        self._tell({name: kept for name, kept in self.files.items() if name not in names})
        self.store.remove(gone)

    def check(self, name: str) -> None:
        """Reads a file of the last manifest. Raises MixstyleError ("damaged-file") where it is not what was sent."""
        kept = self.files[name]
        stored = self.store.stored(object_name(name, kept))
        if stored is None or stored.size != kept.size:
            raise self._wrong(name, "it is missing or cut short")
        if differs(self.store, object_name(name, kept), kept.size, kept.sha256):
            raise self._wrong(name, "its bytes differ from those that were sent")

    def _read(self, numbers: Sequence[int]) -> list[dict[str, KeptFile]]:
        """What manifests name, the last one first; of one that is damaged `damage` tells."""
        self.damage = None
        read: list[dict[str, KeptFile]] = []
        for number in numbers:
            try:
                read.append(self._read_manifest(manifest_name(number)))
            except MixstyleError as error:
                if error.code == "not-found" and read:
                    break
                if error.code != "damaged-file":
                    raise
                if not read:
                    self.damage = self.damage or error
        return read

    def _read_manifest(self, name: str) -> dict[str, KeptFile]:
        make_folder(self.folder)
        copy = own_partial(self.folder / name)
        try:
            copy.write_bytes(read_as_stored(self.store, name, ""))
            value = read_json(copy)
        except MixstyleError as error:
            if error.code != "damaged-file":
                raise
            raise MixstyleError(f"{self.name}/{name}: damaged: it is no whole manifest", code="damaged-file") from error
        finally:
            copy.unlink(missing_ok=True)
        version = value.get("version") if isinstance(value, dict) else None
        if version != VERSION:
            raise MixstyleError(
                f"{self.name}/{name}: version {version!r} of the format; this mixstyle reads version {VERSION}",
                code="unknown-version",
            )
        try:
            return {
                _plain_name(one): KeptFile(int(kept["bytes"]), str(kept["sha256"]))
                for one, kept in value["files"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise MixstyleError(f"{self.name}/{name}: damaged: {error}", code="damaged-file") from error

    def _fetch(self, names: tuple[str, ...]) -> dict[str, MixstyleError]:
        """Fetches what differs and removes what is not kept (any more); what could not be had."""
        wrong: dict[str, MixstyleError] = {}
        stale: set[str] = set()
        for name, kept in self.files.items():
            path = self.folder / name
            if path.is_file() and self._kept(path) == kept:
                continue
            if names and name not in names:
                stale.add(name)
                continue
            temporary = own_partial(path)
            try:
                if download_as_stored(self.store, object_name(name, kept), temporary, kept.sha256) != kept.sha256:
                    raise self._wrong(name, "its bytes differ from those that were sent")
                publish(temporary, path)
            except MixstyleError as error:
                if error.code not in ("not-found", "damaged-file"):
                    raise
                self._wrong_objects.add(object_name(name, kept))
                wrong[name] = error if error.code == "damaged-file" else self._wrong(name, "it is not there")
            finally:
                temporary.unlink(missing_ok=True)
        for path in self.folder.iterdir():
            if self._is_kept(path) and (path.name not in self.files or path.name in wrong or path.name in stale):
                path.unlink(missing_ok=True)
        return wrong

    def _tell(self, files: dict[str, KeptFile]) -> None:
        """Writes the next manifest, and removes what is out of use then."""
        told = {name: {"bytes": kept.size, "sha256": kept.sha256} for name, kept in files.items()}
        data = json_with_checksum({"version": VERSION, "files": told}, indent=2).encode()
        if self.store.create(manifest_name(self._number + 1), data) != data:
            raise self._overtaken()
        self._number += 1
        self._unnamed |= {object_name(name, kept) for name, kept in self._before.items()}
        self.files, self._before, self.damage = files, self.files, None
        self._clean()

    def _clean(self) -> None:
        """Removes what is out of use. Raises MixstyleError ("in-use") where another process was faster after all."""
        listed = self.store.listed(deep=False)
        numbers = _numbers(listed)
        if not numbers or numbers[0] != self._number:
            raise self._overtaken()
        for name, kept in self.files.items():
            if object_name(name, kept) not in listed and (self.folder / name).is_file():
                self.store.publish(self.folder / name, object_name(name, kept))
        named = {object_name(name, kept) for files in (self.files, self._before) for name, kept in files.items()}
        # manifests first: none of them may name what is not there
        self.store.remove([manifest_name(number) for number in numbers if number < self._number - 1])
        self.store.remove(sorted((self._unnamed - named) & listed.keys()))
        self._unnamed = set()

    def _is_kept(self, path: Path) -> bool:
        """Whether a file of the working folder goes to the store."""
        own = path.suffix in SUFFIXES and path.name not in self._leave and not path.name.startswith(".")
        return own and path.is_file()

    def _kept(self, path: Path) -> KeptFile:
        """Size and hash of a file of the working folder, read again where it has changed."""
        stat = path.stat()
        # a file that is replaced has another number; clocks of files stand still for some milliseconds
        key = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if self._hashed.get(path.name, ((0, 0, 0), ""))[0] != key:
            self._hashed[path.name] = key, sha256_file(path)
        return KeptFile(stat.st_size, self._hashed[path.name][1])

    def _objects_of(self, names: Iterable[str]) -> set[str]:
        """What files of the last manifest are called in the store."""
        return {object_name(name, self.files[name]) for name in names}

    def _changing(self) -> MixstyleError:
        return MixstyleError(
            f"{self.name}: changes while it is read; run the command again",
            code="remote",
        )

    def _wrong(self, name: str, what: str) -> MixstyleError:
        return MixstyleError(f"{self.name}/{name}: damaged: {what}", code="damaged-file", remedy=("verify", "--repair"))

    def _overtaken(self) -> MixstyleError:
        return MixstyleError(
            f"{self.name}: another process writes there; let one at a time write there, and run the command again",
            code="in-use",
        )


def kept_folder(location: Path, cache_dir: Path, leave: Collection[str] = ()) -> KeptFolder:
    """A folder, or what is behind a URL, to be written. cache_dir: where working folders of URLs are. leave: as for
    `RemoteFolder`. Nothing is looked at yet."""
    url = url_of(location)
    return RemoteFolder(url, working_folder(url, cache_dir), leave) if url else KeptFolder(location)


def read_folder(location: Path, cache_dir: Path, leave: Collection[str] = ()) -> KeptFolder:
    """The same, to be read: with a working folder of its own, since another process may be writing in the other."""
    url = url_of(location)
    if not url:
        return KeptFolder(location)
    working = working_folder(url, cache_dir)
    return RemoteFolder(url, working.with_name(f"{working.name}-read"), leave)


def name_by_url(folder: Path, url: str) -> None:
    """Has `by_url` name what is in a folder of this machine by the URL that it is a copy of."""
    _names[str(folder)] = url


def by_url(text: str) -> str:
    """A text for people: what is in a working folder is named by its URL."""
    for folder in sorted(_names, key=len, reverse=True):
        text = text.replace(folder, _names[folder])
    return text


def object_name(name: str, kept: KeptFile) -> str:
    """What a file is called in the store.

    >>> object_name("latest.pt", KeptFile(3, "0123456789abcdef" * 4))
    'latest.0123456789abcdef.pt'
    """
    path = Path(name)
    return f"{path.stem}.{kept.sha256[:16]}{path.suffix}"


def manifest_name(number: int) -> str:
    """What a manifest is called in the store."""
    return f"manifest-{number:08d}.json"


def _numbers(listed: Iterable[str]) -> list[int]:
    """Of the manifests among names, the last one first."""
    return sorted((int(found[1]) for name in listed if (found := _MANIFEST.fullmatch(name))), reverse=True)


def _plain_name(name: str) -> str:
    """A file's name, which may not lead out of its folder. Raises ValueError."""
    if Path(name).name != name or Path(name).suffix not in SUFFIXES or name.startswith("."):
        raise ValueError(f"names {name!r}")
    return name
