"""URLs among paths: a setting that takes a folder or a URL is a `Path` either way.

`Path` joins slashes, so that `s3://bucket/stems` is kept as `s3:/bucket/stems`, and what is below it by `/` too. Here
the URL is found again. `file://` is no URL in this sense: it is the path.
"""

import re
from pathlib import Path

from mixstyle.pipeline.core.errors import MixstyleError

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)", re.DOTALL)
_FILE = re.compile(r"file:/{1,3}(?=[^/])")


def url_of(path: Path | str) -> str:
    """The URL that a path stands for; empty for a path of this machine.

    >>> url_of(Path("s3://bucket/stems") / "a.tar"), url_of("data/songs"), url_of("c:/songs")
    ('s3://bucket/stems/a.tar', '', '')
    """
    found = _URL.fullmatch(str(path))
    return f"{found[1]}://{found[2]}" if found and found[1] != "file" else ""


def shown(path: Path | str) -> str:
    """A path or URL as people write it, with slashes.

    >>> shown(Path("s3://bucket/stems"))
    's3://bucket/stems'
    """
    return url_of(path) or (path.as_posix() if isinstance(path, Path) else path)


def not_there(path: Path, what: str = "file", named_by: str = "") -> MixstyleError:
    """What to raise where a file or folder of this machine is needed and there is none: a URL is told as one.

    named_by: of the message, before the path.

    >>> str(not_there(Path("a.wav"))), not_there(Path("s3://bucket/a.wav")).code
    ('a.wav: no such file', 'bad-option')
    """
    if url := url_of(path):
        told = f"{named_by}{url}: is a URL; a {what} on this machine is needed here; copy it first"
        return MixstyleError(told, code="bad-option")
    return MixstyleError(f"{named_by}{path}: no such {what}", code="not-found")


def without_file_scheme(text: str) -> str:
    """A `file://` URL as the path that it means; all else as it is.

    >>> without_file_scheme("file:///music"), without_file_scheme("s3://bucket")
    ('/music', 's3://bucket')
    """
    return _FILE.sub("/", text, count=1)
