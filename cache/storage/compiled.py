"""C code that is built on this machine at its first use, and kept.

`$XDG_CACHE_HOME/mixstyle/compiled/<name>-<case>-<content>.so` (`~/.cache` unless set): the source file's name, 16 hex
digits of the source, the compiler's options and the kind of processor, and 16 of the SHA-256 of the library itself.
A library that is not what its name says, or that others could have written, is not loaded; it is a cache, and may be
thrown away at any time.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from mixstyle.cache.storage.atomic import own_partial, publish, sha256_file
from mixstyle.cache.storage.user_cache import user_cache
from mixstyle.pipeline.core.errors import MixstyleError, one_line

Loaded = TypeVar("Loaded")

COMPILE_S = 60
"""A compiler that takes longer is stopped; it needs about one."""
_OTHERS_MAY_WRITE = 0o022


class NotCompiledError(Exception):
    """Why there is no library: a text for people."""


def compiled(source: Path, flags: Sequence[str], load: Callable[[ctypes.CDLL], Loaded]) -> Loaded:
    """What `load` makes of the library that a C file builds to: from the cache, else built now and kept where possible.

    flags: of the compiler, which is `$CC`, `cc`, `gcc` or `clang`. load: raises OSError for a library that it refuses.
    Raises NotCompiledError where there is no compiler, or it fails, or its library is refused.
    """
    folder = user_cache("compiled")
    text = source.read_text(encoding="utf-8")
    case = hashlib.sha256("\0".join([text, *flags, sys.platform, platform.machine()]).encode()).hexdigest()[:16]
    name = f"{source.stem}-{case}-"
    for path in sorted(folder.glob(f"{name}*.so")):
        if _is_ours(path) and path.stem == name + sha256_file(path)[:16]:
            try:
                return load(ctypes.CDLL(str(path)))
            except OSError:  # of another C library, say: it is built again
                continue
    with tempfile.TemporaryDirectory(prefix="mixstyle-") as temporary:
        library = Path(temporary) / f"{source.stem}.so"
        _build(source, flags, library)
        kept = _keep(library, folder / f"{name}{sha256_file(library)[:16]}.so")
        try:
            return load(ctypes.CDLL(str(kept or library)))  # where temporary files are, nothing may be run at times
        except OSError as error:
            if kept is not None:
                kept.unlink(missing_ok=True)
            raise NotCompiledError(one_line(error)) from error


def c_compiler() -> str | None:
    """The path of `$CC`, `cc`, `gcc` or `clang`, the first that is there."""
    named = os.environ.get("CC", "").split()[:1]
    return next(filter(None, map(shutil.which, [*named, "cc", "gcc", "clang"])), None)


def _build(source: Path, flags: Sequence[str], library: Path) -> None:
    compiler = c_compiler()
    if compiler is None:
        raise NotCompiledError("there is no C compiler (cc, gcc or clang)")
    words = [compiler, *flags, "-shared", "-fPIC", "-o", str(library), str(source)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace", timeout=COMPILE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotCompiledError(f"{compiler}: {one_line(error)}") from error
    if done.returncode != 0 or not library.is_file():
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr)
        raise NotCompiledError(
            f"{compiler} cannot build it ({' '.join(first.split())[:200] or f'status {done.returncode}'})"
        )


def _keep(library: Path, path: Path) -> Path | None:
    """Puts a library into the cache; None where it cannot be kept: the next process builds it again."""
    partial = own_partial(path)  # several processes may build at once
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copyfile(library, partial)
        partial.chmod(0o700)
        publish(partial, path)
    except (OSError, MixstyleError):
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        return None
    return path


def _is_ours(path: Path) -> bool:
    """Whether this user alone could have written a file: what is loaded runs as this user."""
    told = [path.stat(), path.parent.stat()]
    return all(one.st_uid == os.getuid() and not one.st_mode & _OTHERS_MAY_WRITE for one in told)
