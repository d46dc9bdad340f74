"""What the machine has no more of for this process: open files, memory, threads; and a folder that is gone.

Told in one line, with what helps. Libraries name some of it in words alone.
"""

import errno
import os
import resource
import sys

FILES_WANTED = 65_536
"""Open files that are asked for: loading processes and shards need more than the 256 or 1,024 of many systems."""
_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_MEMORY = frozenset({errno.ENOMEM})
_PROCESSES = frozenset({errno.EAGAIN})
_NO_MEMORY = ("can't allocate memory", "std::bad_alloc", "bad allocation", "out of memory", "Cannot allocate memory")
_NO_FILES = ("Too many open files", "received 0 items of ancdata")
_NO_THREADS = ("can't start new thread", "Resource temporarily unavailable")


def raise_file_limit() -> None:
    """Raises this process's limit on open files as far as it may itself, up to `FILES_WANTED`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError):
            return  # some systems have a lower limit than they say


def exhaustion(error: BaseException) -> str | None:
    """What ran out, in one line; None where it is something else."""
    number = error.errno if isinstance(error, OSError) else None
    words = str(error) if isinstance(error, OSError | RuntimeError) else ""
    if number in _FILES or any(said in words for said in _NO_FILES):
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"too many open files (the limit is {limit}); raise it and run the command again: ulimit -n 4096"
    if isinstance(error, MemoryError) or number in _MEMORY or any(said in words for said in _NO_MEMORY):
        return "not enough memory; use fewer worker processes or smaller batches (--help names the options)"
    if number in _PROCESSES or any(said in words for said in _NO_THREADS):
        return "the system allows no more processes or threads (see ulimit -u); use fewer worker processes"
    return None


def narrow_encoding(error: UnicodeEncodeError) -> str | None:
    """What to say where a file's name has characters that the system's encoding of names has no bytes for; None for
    other text."""
    if error.encoding.replace("_", "-").lower() != sys.getfilesystemencoding() or error.encoding == "utf-8":
        return None
    return (
        f"{error.object}: a name that the system's encoding of file names ({error.encoding}) has no bytes for; run the "
        "command again after: export PYTHONUTF8=1"
    )


def folder_is_gone() -> str | None:
    """What to say where the folder that the command was started in has been deleted; libraries abort there."""
    try:
        os.getcwd()  # noqa: PTH109 (a path is not needed)
    except FileNotFoundError:
        return "the folder that this command was started in is gone; change into another one: cd"
    return None
