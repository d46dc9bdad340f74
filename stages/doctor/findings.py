"""What `mixstyle doctor` finds: facts, each tried on its own, and problems with a remedy; as text and as JSON."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixstyle.pipeline.core.errors import one_line


@dataclass(frozen=True)
class Failure:
    """A fact that could not be had, and why."""

    why: str


@dataclass(frozen=True)
class Problem:
    """What is likely wrong. remedy: what to do, a command where there is one; empty where the text says all."""

    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Section:
    """One part of the report. facts: by names that end in their unit (`free_bytes`, `write_mb_per_s`)."""

    name: str
    facts: Mapping[str, Any]
    problems: tuple[Problem, ...] = field(default=())


def tried(way: Callable[[], Any]) -> Any:
    """What a function returns, or a Failure: a machine that lacks one thing is still told of in all others."""
    try:
        return way()
    except Exception as error:  # noqa: BLE001 (a report about broken machines: what breaks there has no common kind)
        return Failure(f"{type(error).__name__}: {one_line(error, 200)}")


def facts_of(ways: Mapping[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each of several functions returns, by name."""
    return {name: tried(way) for name, way in ways.items()}


def section_of(name: str, make: Callable[[], Section]) -> Section:
    """A section; where making it fails as a whole, one that says so."""
    found = tried(make)
    return found if isinstance(found, Section) else Section(name, {name: found})


def public_text(text: str, home: Path | None = None) -> str:
    """The text with the home folder as `~`, whose name is most often a person's, and without passwords in URLs.

    >>> public_text("/home/anna/x, /home/annabel and /home/anna", Path("/home/anna"))
    '~/x, /home/annabel and ~'
    >>> public_text("https://anna:secret@host/stems?signature=secret: no answer", Path("/home/anna"))
    'https://...@host/stems?... no answer'
    """
    text = re.sub(r"(?<=://)[^/\s]+(?=@)", "...", text)
    text = re.sub(r"(://[^\s?]*\?)\S+", r"\1...", text)
    place = home or tried(Path.home)
    if isinstance(place, Failure):  # a user whom the system does not know
        return text
    for name in {str(place), str(tried(place.resolve))} - {place.anchor}:
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w.-])", "~", text)
    return text


def as_json(value: Any) -> Any:
    """Facts as JSON has them, as public text; a Failure as `{"error": why}`."""
    if isinstance(value, Failure):
        return {"error": public_text(value.why)}
    if isinstance(value, Mapping):
        return {public_text(str(name)): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    return public_text(str(value)) if isinstance(value, str | Path) else value


def as_text(section: Section) -> list[str]:
    """A section as lines of public text."""
    return [section.name, *(f"  {line}" for name, value in section.facts.items() for line in _lines(name, value))]


def _lines(name: str, value: Any) -> list[str]:
    if isinstance(value, Mapping):
        inner = (line for key, item in value.items() for line in _lines(key, item))
        return [f"{public_text(name)}:", *(f"  {line}" for line in inner)]
    if isinstance(value, list) and len(value) > 1 and any(" " in str(item) for item in value):
        return [f"{name.replace('_', ' ')}:", *(f"  {_shown(item, str)}" for item in value)]
    if name.endswith("_bytes"):
        return [f"{name.removesuffix('_bytes').replace('_', ' ')}: {_shown(value, _gigabytes)}"]
    if name.endswith("_mb_per_s"):
        return [f"{name.removesuffix('_mb_per_s').replace('_', ' ')}: {_shown(value, '{:.0f} MB/s'.format)}"]
    if name.endswith("_ms"):
        return [f"{name.removesuffix('_ms').replace('_', ' ')}: {_shown(value, '{:.1f} ms'.format)}"]
    spoken = public_text(name) if "://" in name else name.replace("_", " ")
    return [f"{spoken}: {_shown(value, str)}"]


def _shown(value: Any, form: Callable[[Any], str]) -> str:
    if isinstance(value, Failure):
        return f"not known ({public_text(value.why)})"
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return public_text(", ".join(map(str, value))) or "none"
    return public_text(value if isinstance(value, str) else form(value))


def _gigabytes(count: float) -> str:
    if count < 1e6:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
