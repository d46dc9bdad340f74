"""Downloads that go on where they were cut.

What has come so far is in the file itself; beside it, as `<file>.json`, format version 1, what the server said of
it: `{"version": 1, "url": ..., "size": bytes or null, "tag": ...}`. tag is the answer's strong ETag, else its
Last-Modified. A later request asks for the rest under the condition that this has not changed (RFC 9110, sections
13.1.5 and 14.2); a server that cannot do that sends all of it, and all of it is taken.
"""

import contextlib
import http.client
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.pipeline.core.errors import MixstyleError

VERSION = 1
TIMEOUT_S = 30.0
"""A server that sends nothing for so long counts as gone."""
TRIES = 5
"""Requests in a row that bring nothing, until it is given up."""
WAIT_S = 1.0
"""Between the first two of them; doubled each time."""
_BLOCK_BYTES = 1 << 18
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_BEYOND_ITS_END = 416


@dataclass(frozen=True)
class _Told:
    """What a server said of the file that a partial one is the beginning of."""

    url: str
    size: int | None
    tag: str


class _CutError(Exception):
    """A request that did not bring all of it; the next one may."""


def check_url(url: str) -> None:
    """Raises MixstyleError (bad-option) for what is no address of the web."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or a host that is none
        good = False
    if not good:
        raise MixstyleError(f"{url}: should be an address that begins with https:// or http://", code="bad-option")


def download(url: str, path: Path, tell: Callable[[int, int | None], None], *, is_checked: bool = False) -> None:
    """Brings all of a URL into `path`; what an earlier call left there is continued.

    tell: called with the bytes that are there and the size, None where the server does not say it. is_checked: the
    caller knows the file's hash, so that a rest may be joined to it that no tag says is of the same file. Raises
    MixstyleError: bad-option for other schemes, not-found, remote where the server refuses or is not to be reached
    (what has come stays), cannot-write.
    """
    check_url(url)
    with _on_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    failed, before = 0, _size(path)
    while True:
        try:
            return _request(url, path, tell, is_checked)
        except _CutError as error:
            failed = 1 if _size(path) > before else failed + 1
            before = _size(path)
            if failed >= TRIES:
                raise MixstyleError(
                    f"{url}: {error}; {before / 1e6:.1f} MB are downloaded; run the same command to continue",
                    code="remote",
                ) from error
            time.sleep(WAIT_S * 2 ** (failed - 1))


def discard(path: Path) -> None:
    """Removes what `download` has brought, and what it noted of it."""
    path.unlink(missing_ok=True)
    forget(path)


def forget(path: Path) -> None:
    """Removes what was noted of a download that is done with."""
    _notes(path).unlink(missing_ok=True)


def _request(url: str, path: Path, tell: Callable[[int, int | None], None], is_checked: bool) -> None:
    """One request for all that is missing. Raises _CutError where another may bring it."""
    told, have = _noted(path, url), _size(path)
    if told is not None and told.size == have:
        return tell(have, have)
    if told is None or not (told.tag or is_checked):
        told, have = None, 0
    headers = {"User-Agent": "mixstyle", "Accept-Encoding": "identity"}
    if have and told is not None:
        headers["Range"] = f"bytes={have}-"
        if told.tag:
            headers["If-Range"] = told.tag
    with _opened(url, headers, path) as answer:
        start, size = _extent(answer)
        if start not in (0, have) or (start and told is not None and told.size not in (None, size)):
            discard(path)
            raise _CutError("the file on the server has changed")
        if start == 0:
            _note(path, _Told(url, size, _tag(answer.headers)))
        _check_room(path, (size or 0) - start)
        _take(answer, path, start, size, tell)
    if size is not None and _size(path) < size:
        raise _CutError("the connection was cut")


def _opened(url: str, headers: Mapping[str, str], path: Path) -> Any:
    """The answer to a request. Raises _CutError where it may be asked again, MixstyleError where that is of no use."""
    try:
        return urllib.request.build_opener(_Redirects).open(
            urllib.request.Request(url, headers=dict(headers)), timeout=TIMEOUT_S
        )
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == _BEYOND_ITS_END:
            discard(path)
        if error.code in _TRANSIENT | {_BEYOND_ITS_END}:
            raise _CutError(f"the server answers {error.code} {error.reason}") from error
        code = "not-found" if error.code in _GONE else "remote"
        raise MixstyleError(f"{url}: the server answers {error.code} {error.reason}", code=code) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise MixstyleError(f"{url}: {error.reason.verify_message}", code="remote") from error
        raise _CutError(f"the server cannot be reached ({error.reason})") from error
    except ValueError as error:  # letters or blanks that an address cannot have
        raise MixstyleError(f"{url}: {error}", code="bad-option") from error
    except (http.client.HTTPException, OSError) as error:
        raise _CutError(f"the server does not answer ({str(error) or type(error).__name__})") from error


def _take(answer: IO[bytes], path: Path, start: int, size: int | None, tell: Callable[[int, int | None], None]) -> None:
    """Writes what comes to the file, from `start` on."""
    done = start
    with _on_disk(path), path.open("ab" if start else "wb") as file:
        tell(done, size)
        while True:
            try:
                block = answer.read(_BLOCK_BYTES)
            except (http.client.HTTPException, OSError) as error:
                raise _CutError(f"the connection was cut ({str(error) or type(error).__name__})") from error
            if not block:
                return
            file.write(block)
            done += len(block)
            tell(done, size)


@contextlib.contextmanager
def _on_disk(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MixstyleError(f"{path}: cannot be written ({error.strerror})", code="cannot-write") from error


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > free:
        raise MixstyleError(
            f"{path.parent}: {needed / 1e6:.0f} MB are needed, and {free / 1e6:.0f} MB are free", code="cannot-write"
        )


def _extent(answer: Any) -> tuple[int, int | None]:
    """Where an answer begins in the file, and the size of the file, if told."""
    if answer.status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if found is None:
            raise _CutError("the server does not say which part it sends")
        return int(found[1]), None if found[2] == "*" else int(found[2])
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _tag(headers: Mapping[str, str]) -> str:
    """What tells this version of a file from another."""
    tag = headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified", "")


def _noted(path: Path, url: str) -> _Told | None:
    """What was noted of a partial file; None where it is not there or was of another URL."""
    if not path.is_file() or not _notes(path).is_file():
        return None
    with contextlib.suppress(MixstyleError, TypeError, AttributeError):
        stored = dict(read_json(_notes(path)))
        if stored.pop("version", None) == VERSION and stored.get("url") == url:
            return _Told(**stored)
    return None


def _note(path: Path, told: _Told) -> None:
    with _on_disk(path):
        write_json(_notes(path), {"version": VERSION, **asdict(told)})


def _notes(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https alone, and never from https to http."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https",) if urlsplit(req.full_url).scheme == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in allowed:
            raise MixstyleError(
                f"{req.full_url}: redirects to {newurl}; allowed are {' and '.join(allowed)}", code="remote"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)
