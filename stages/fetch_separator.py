"""`mixstyle fetch-separator`: downloads a public separator's checkpoint, and checks it before it gets its name.

It is downloaded to a partial file, and a download that was cut is continued. It gets its own name when it is whole, has
the SHA-256 that was asked for, can be read without running code (`torch.load(weights_only=True)`), and fits the YAML
that says which network it is of.
"""

import math
import shlex
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from mixstyle.cache.storage.atomic import publish, sha256_file
from mixstyle.cache.storage.download import check_url, discard, download, forget
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config
from mixstyle.stages.common.assets import SEPARATOR, profile_names, shipped
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.settings.profile import load_settings

SUFFIXES = (".ckpt", ".pt", ".th", ".safetensors")
FOLDER = SEPARATOR.parent
_KEPT = {"misfit"}
"""Codes after which what was downloaded is kept for another try: the YAML was the wrong one."""


@dataclass(frozen=True)
class FetchedSeparator:
    """A checkpoint that is there. config: its YAML. sha256: of its bytes, 64 hex digits."""

    checkpoint: Path
    config: Path
    sha256: str
    size_bytes: int
    description: str


def fetch_separator(url: str, sha256: str = "", output: Path | None = None, config: str = "fma") -> FetchedSeparator:
    """Downloads a checkpoint, checks it, and prints its size, its SHA-256 and the settings that take it.

    sha256: what it should have; it is refused otherwise. output: the file; None takes the name at the URL's end, in the
    separators' folder. config: its YAML, or a profile (by name or as a file), whose `separate.separator_config` is
    taken. A file that is there already is checked in the same way and not downloaded. Raises MixstyleError for wrong
    options, as `download` does, and for a file that is not what was asked for (misfit), or no checkpoint.
    """
    check_url(url)
    wanted = sha256.strip().lower()
    if wanted and (len(wanted) != 64 or not set(wanted) <= set("0123456789abcdef")):
        raise MixstyleError(f"--sha256 {sha256}: should be 64 hexadecimal digits", code="bad-option")
    path = output or FOLDER / _name(url)
    if path.suffix not in SUFFIXES:
        named = f"--output {output}" if output else url
        raise MixstyleError(
            f"{named}: should end in {', '.join(SUFFIXES)}; name the file with --output", code="bad-option"
        )
    yaml_path = _config(config)
    read_separator_config(shipped(yaml_path))  # what cannot be used is refused before anything is brought
    if path.exists():
        remark(f"fetch-separator: {path} is there already; nothing is downloaded")
        found = _checked(path, path, yaml_path, wanted)
    else:
        check_file(path)
        with locked(path.parent, "mixstyle fetch-separator"):
            found = _fetched(url, path, yaml_path, wanted)
    _print(found)
    return found


def _fetched(url: str, path: Path, config: Path, wanted: str) -> FetchedSeparator:
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    remark(f"fetch-separator: {url}")
    with _Said() as said:
        download(url, partial, said.tell, is_checked=bool(wanted))
    try:
        found = _checked(partial, path, config, wanted)
    except MixstyleError as error:
        if error.code in _KEPT and _has(partial, wanted):
            raise MixstyleError(
                f"{error.message}; name its own YAML with --config. What was downloaded is kept beside {path}",
                code=error.code,
            ) from error
        discard(partial)
        raise
    publish(partial, path)
    forget(partial)
    return found


def _checked(there: Path, path: Path, config: Path, wanted: str) -> FetchedSeparator:
    """What a file is. there: where it is now. Raises MixstyleError where it is not what was asked for."""
    sha256 = sha256_file(there)
    if wanted and sha256 != wanted:
        raise MixstyleError(f"{path}: has the SHA-256 {sha256}, not {wanted} as --sha256 says", code="misfit")
    try:
        separator = load_separator(shipped(config), there)
    except MixstyleError as error:
        raise MixstyleError(error.message.replace(str(there), str(path)), code=error.code) from error
    return FetchedSeparator(path, config, sha256, there.stat().st_size, _described(separator))


def _has(path: Path, wanted: str) -> bool:
    return not wanted or sha256_file(path) == wanted


def _described(separator: Separator) -> str:
    return f"{separator.description}, fingerprint {separator.fingerprint}"


def _name(url: str) -> str:
    return PurePosixPath(unquote(urlsplit(url).path)).name


def _config(config: str) -> Path:
    """The YAML of --config: the one that a profile names, or the file itself."""
    if config in profile_names() or _is_profile(Path(config)):
        return load_settings(config, training=False).separate.separator_config
    return Path(config)


def _is_profile(path: Path) -> bool:
    """Whether a file is a profile that names a separator's YAML."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None
    except (OSError, ValueError, yaml.YAMLError):
        return False  # which is told where it is read
    section = content.get("separate") if isinstance(content, dict) else None
    return isinstance(section, dict) and "separator_config" in section


def _print(found: FetchedSeparator) -> None:
    settings = {"separator_config": str(found.config), "separator_checkpoint": str(found.checkpoint)}
    say(f"fetch-separator: {found.checkpoint}: {found.size_bytes} bytes, SHA-256 {found.sha256}")
    say(f"fetch-separator: {found.description}")
    say("fetch-separator: to use it, put these lines into your profile:")
    print(yaml.safe_dump({"separate": settings}, sort_keys=False, width=math.inf), end="", flush=True)
    given = " ".join(f"--set {shlex.quote(f'separate.{name}={value}')}" for name, value in settings.items())
    say(f"fetch-separator: or give any command these options: {given}")


class _Said:
    """The bar of a download, in MB, from the moment on that its size is known; a context manager."""

    def __enter__(self) -> "_Said":
        self._open, self._bar, self._shown = ExitStack(), None, 0
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def tell(self, done: int, size: int | None) -> None:
        if size is None:
            return
        mb = done // 1_000_000 if done < size else -(-size // 1_000_000)
        if self._bar is None:
            self._bar = self._open.enter_context(progress("fetch-separator", -(-size // 1_000_000), "MB", mb))
            self._shown = mb
        self._bar.advance(mb - self._shown)
        self._shown = mb
