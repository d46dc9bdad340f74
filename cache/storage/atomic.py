"""Files that are either whole or not there: written under a temporary name, flushed to the disk, then renamed.

A process killed at any moment leaves the old file or the new one, never a torn one; what it may leave is a
`.<name>.partial` (a hash for a name that is too long for this), which the next write of the same file replaces.

JSON may carry a checksum of itself: `content_sha256`, the SHA-256 of the file's bytes with 64 zeros in its own place.
`read_json` checks it; files without it are read as they are.
"""

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.writable import make_folder, refusals_told
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.text import as_utf8

LEFT_FOR_S = 86_400.0
"""What others may be making is left alone for so long."""
CHECKSUM = "content_sha256"
_ZEROS = "0" * 64
_PLACE = re.compile(rf'"{CHECKSUM}": ?"([0-9a-f]{{64}})"'.encode())

LONGEST_NAME_BYTES = 255
"""Of a file's name, on the file systems in use."""


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` to write to; at the end it is flushed and renamed to `path`.

    An exception inside removes the temporary file and leaves `path` as it was. Check what was written inside the
    block. Two processes must not write one path at once; `mixstyle.cache.storage.locks` keeps them apart. Raises
    MixstyleError (cannot-write) where the system refuses, and as `publish` where the temporary file is gone.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary = path.with_name(_temporary_name(path.name))
    try:
        with refusals_told(path, temporary):
            try:
                yield temporary
            except FileNotFoundError as error:
                if str(temporary) not in str(error):
                    raise
                raise _written_by_another(path) from error
            publish(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _temporary_name(name: str) -> str:
    """`.NAME.partial`; of a name that leaves no room for this a hash of it."""
    whole = f".{name}.partial"
    if len(os.fsencode(whole)) <= LONGEST_NAME_BYTES:
        return whole
    return f".{hashlib.sha256(os.fsencode(name)).hexdigest()[:32]}.partial"


def drop_scratch(path: Path, alone: bool = True) -> None:
    """Removes the folders `.NAME.*.partial` beside `path`, in which processes that were killed had begun to make it.

    alone: no other process makes one, by a lock; else one that was begun within a day stays.
    """
    before = math.inf if alone else time.time() - LEFT_FOR_S
    for entry in path.parent.iterdir() if path.parent.is_dir() else ():
        if entry.name.startswith(f".{path.name}.") and entry.name.endswith(".partial") and entry.is_dir():
            with suppress(FileNotFoundError):  # its maker has just given it its name
                if entry.stat().st_mtime < before:
                    shutil.rmtree(entry, ignore_errors=True)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to make it in, which is renamed to it when it is whole; else it is removed at the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
    try:
        scratch.chmod(0o755)  # mkdtemp's folders are closed to others
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def own_partial(path: Path) -> Path:
    """A temporary name that no other process or thread takes, where several write the same file with equal bytes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")


def publish(temporary: Path, path: Path) -> None:
    """Flushes a file that is whole and gives it its name, in the same folder.

    Raises MixstyleError ("in-use") where the file is gone: another process has written the same one, and given it its
    name, which locks prevent where the file system has them.
    """
    try:
        _flush(temporary)
        temporary.replace(path)
    except FileNotFoundError as error:
        raise _written_by_another(path) from error
    _flush(path.parent)


def _written_by_another(path: Path) -> MixstyleError:
    return MixstyleError(
        f"{path}: another process wrote it at the same time; let one process at a time write there", code="in-use"
    )


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` to `path` atomically."""
    with atomic_write(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Writes `text` as UTF-8 to `path` atomically. Line ends stay; names that are no UTF-8 get backslashes."""
    write_bytes(path, as_utf8(text).encode("utf-8"))


def write_json(path: Path, value: Any, *, checksum: bool = False) -> None:
    """Writes `value` as JSON to `path` atomically: sorted keys, two blanks of indentation, equal values equal bytes.

    checksum: of an object, with its checksum in it.
    """
    write_text(path, json_with_checksum(value, indent=2) if checksum else _dumped(value, indent=2))


def json_with_checksum(value: Mapping[str, Any], **layout: Any) -> str:
    """An object as JSON with its checksum in it, and a line's end. layout: as for `json.dumps`."""
    text = _dumped({**value, CHECKSUM: _ZEROS}, **layout)
    place = _PLACE.search(text.encode())
    if place is None:
        raise ValueError("a layout of JSON that `read_json` would not find the checksum in")
    digest = hashlib.sha256(text.encode()).hexdigest()
    return (text.encode()[: place.start(1)] + digest.encode() + text.encode()[place.end(1) :]).decode()


def _dumped(value: Any, **layout: Any) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, **layout) + "\n"


def read_json(path: Path, changed: str = "") -> Any:
    """The JSON in `path`, without the checksum that it may carry. changed: what to do where a person changed it.

    Raises MixstyleError, naming the file, where it cannot be read, is no JSON, or is not what its checksum says.
    """
    try:
        data = path.read_bytes()
        value = json.loads(data.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        why = (isinstance(error, OSError) and error.strerror) or one_line(error)  # without the path a second time
        raise MixstyleError(f"{path}: cannot be read as JSON ({why})", code="damaged-file") from error
    if isinstance(value, dict) and value.pop(CHECKSUM, None) is not None and not json_checksum_fits(data):
        hint = f"; {changed}" if changed else ""
        raise MixstyleError(f"{path}: damaged: its content is not what its checksum says{hint}", code="damaged-file")
    return value


def json_checksum_fits(data: bytes) -> bool:
    """Whether bytes carry a checksum of `json_with_checksum`, and are what it says."""
    place = _PLACE.search(data)
    plain = data[: place.start(1)] + _ZEROS.encode() + data[place.end(1) :] if place else b""
    return place is not None and hashlib.sha256(plain).hexdigest() == place[1].decode()


def sha256_file(path: Path) -> str:
    """64 hex digits of the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    """Has the kernel write a file's bytes, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
