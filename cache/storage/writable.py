"""Whether an output can be written: looked at before the work that would be lost, and told in one line.

What the system refuses (a read-only disk, a full one, a folder of somebody else's, a file where a folder should be)
becomes a MixstyleError (cannot-write) that names the output.
"""

import errno
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The disk, somebody's share of it, or the size that a file may have, is used up."""
REFUSALS = FULL | {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ESTALE),
}
"""Of the system to a process that wants to write."""
PROBE_BYTES = 4096
"""What a look at a disk writes: a block of most file systems, so that a full one shows."""


def cannot_write(path: Path, error: OSError) -> MixstyleError:
    """What to raise where the system refuses to write `path`."""
    in_the_way = isinstance(error, FileExistsError | NotADirectoryError)
    why = "a file is where a folder should be" if in_the_way else error.strerror or error
    return MixstyleError(f"{path}: cannot be written ({why})", code="cannot-write")


def make_folder(folder: Path) -> None:
    """Makes a folder and those above it, unless it is there. Raises MixstyleError (cannot-write)."""
    _check_no_url(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def check_folder(folder: Path, output: Path | None = None) -> None:
    """Looks whether files can be written into a folder, or into the one that it would be made in; leaves nothing.

    output: what the message names, if not the folder. Raises MixstyleError (cannot-write), also for a URL.
    """
    _check_no_url(output or folder)
    try:
        place = folder.resolve()  # also of `..` after a folder that is not there
        while not place.exists():
            place = place.parent
        _write_probe(place)
    except OSError as error:
        raise cannot_write(output or folder, error) from error


def check_file(path: Path) -> None:
    """Looks whether a file can be written; leaves nothing. Raises MixstyleError (cannot-write), also for a URL."""
    _check_no_url(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    except OSError as error:  # a name that is too long, say
        raise cannot_write(path, error) from error
    if not stat.S_ISREG(mode) or _stands_for_a_stream(path):
        # it would be replaced by a file, where the user may do that
        what = "a folder" if stat.S_ISDIR(mode) else "a device or a pipe"
        raise MixstyleError(f"{path}: cannot be written: it is {what}", code="cannot-write")
    check_folder(path.parent, path)


def _stands_for_a_stream(path: Path) -> bool:
    """Whether it is the system's name for what a process has open, such as /dev/stdout: a link to a file, where the
    shell sends the output to one."""
    folder = path.parent.resolve()
    return path.is_symlink() and (folder == Path("/dev") or Path("/proc") in folder.parents)


@contextmanager
def refusals_told(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Raises MixstyleError (cannot-write) where what is done inside cannot write `path`.

    temporary: the file that is written in its place. Errors that name other files pass, and so does what the disk has
    nothing to do with; libraries that tell no reason are believed where the disk takes no more.
    """
    own = {str(path), str(path.parent), str(temporary or path)}
    try:
        yield
    except OSError as error:
        if error.errno not in REFUSALS or (error.filename is not None and str(error.filename) not in own):
            raise
        raise cannot_write(path, error) from error
    except (RuntimeError, ValueError) as error:  # of torch, faiss and libsndfile, which keep the reason to themselves
        try:
            _write_probe(path.parent)
        except OSError as reason:
            raise cannot_write(path, reason) from error
        raise


def _check_no_url(output: Path) -> None:
    """A path of this machine would be made of `s3://bucket/x`: folders named `s3:` and `bucket`."""
    if url := url_of(output):
        told = f"{url}: cannot be written: it is a URL; give a path on this machine, and copy the file afterwards"
        raise MixstyleError(told, code="cannot-write")


def _write_probe(folder: Path) -> None:
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(bytes(PROBE_BYTES))
        probe.flush()
