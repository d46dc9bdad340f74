"""Music in formats that libsndfile does not read, decoded by the machine's ffmpeg where there is one.

Nothing of mixstyle needs ffmpeg. What it decodes depends on its version; the file's own hash does not.
"""

import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO

LONGEST_S = 3 * 3600
"""Of what is decoded; a longer file is refused: 4 GB of samples are in the temporary folder then."""
NOT_INSTALLED = "ffmpeg, which may read it, is not installed"
"""Is in the reason of a track that only ffmpeg may read."""
_BLOCK_BYTES = 1 << 20


class NotDecodedError(Exception):
    """ffmpeg does not read the file; the text says why."""


def installed() -> str | None:
    """ffmpeg's path; None where there is none."""
    return shutil.which("ffmpeg")


def decoded(path: Path) -> IO[bytes]:
    """The first audio stream as an AU file of float32 samples, in a temporary file that goes when it is closed.

    The last one is kept: a track's header and its windows are asked for one after the other. Raises NotDecodedError,
    also without ffmpeg, and OSError where the temporary folder is full.
    """
    status = path.stat()
    return _decoded(path.absolute(), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=1)
def _decoded(path: Path, _size: int, _modified_ns: int) -> IO[bytes]:
    program = installed()
    if program is None:
        raise NotDecodedError(NOT_INSTALLED)
    # a playlist in disguise may name places elsewhere: no protocol but that of files
    command = [
        program, "-nostdin", "-hide_banner", "-loglevel", "error", "-protocol_whitelist", "file,pipe",
        "-i", f"file:{path}", "-map", "0:a:0", "-vn", "-sn", "-dn", "-t", str(LONGEST_S),
        "-c:a", "pcm_f32be", "-f", "au", "pipe:1",
    ]  # fmt: skip
    made = tempfile.TemporaryFile(prefix="mixstyle-")  # noqa: SIM115 (its reader closes it)
    with tempfile.TemporaryFile() as errors:
        # through a pipe: where this process is ended, ffmpeg ends too, with nobody to write to
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors) as process:
            while process.stdout is not None and (block := process.stdout.read(_BLOCK_BYTES)):
                made.write(block)
        errors.seek(0)
        lines = errors.read().decode("utf-8", "backslashreplace").strip().splitlines()
    if process.returncode != 0 and made.tell() == 0:
        made.close()
        raise NotDecodedError(lines[-1].removeprefix(f"file:{path}: ") if lines else "ffmpeg failed")
    made.seek(0)
    return made
