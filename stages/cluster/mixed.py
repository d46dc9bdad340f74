"""Which machines of other kinds made parts of an output that has no place of its own for it: `NAME.machines.json`.

Version 1: `{"version": 1, "machines": {kind: [part, ...]}}`, beside the output, with a checksum of itself. A kind is
the text of `mixstyle.stages.separate.machine_kind`; parts that were made on the kind that the output was begun on are
not in it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError

VERSION = 1


def mixed_path(output: Path) -> Path:
    """Where it is."""
    return output.with_name(f"{output.name}.machines.json")


def note_mixed(output: Path, made: Mapping[str, str]) -> None:
    """Adds parts, each with the kind of machine that made it; of a part that was made again the last one counts."""
    if made:
        _note(mixed_path(output), made)


def note_mixed_at(place: Place, name: str, made: Mapping[str, str]) -> None:
    """The same of an output at a place: beside a folder, and under a name in what is kept behind a URL."""
    if not place.is_remote:
        note_mixed(place.folder, made)
    elif made:
        with place.turn():
            _note(mixed_at(place, name), made)
            place.keep(name)


def mixed_at(place: Place, name: str) -> Path:
    """Where it is on this machine, of an output at a place."""
    return place.folder / name if place.is_remote else mixed_path(place.folder)


def forget_mixed_at(place: Place, name: str) -> None:
    """Takes it away, of an output that is made again as a whole."""
    if place.is_remote:
        place.take_away(name)
    else:
        mixed_path(place.folder).unlink(missing_ok=True)


def check_mixed(path: Path) -> None:
    """Raises MixstyleError where it is damaged ("damaged-file") or of an unknown version ("unknown-version")."""
    stored: Any = read_json(path)
    if isinstance(stored, dict) and isinstance(stored.get("version"), int) and stored["version"] != VERSION:
        raise MixstyleError(f"{path}: not of version {VERSION}, the one this mixstyle reads", code="unknown-version")
    if not isinstance(stored, dict) or not isinstance(stored.get("machines"), dict):
        raise MixstyleError(f"{path}: damaged: it names no machines", code="damaged-file")


def _note(path: Path, made: Mapping[str, str]) -> None:
    """Adds parts to a file."""
    kinds = dict[str, str]()
    try:
        stored: Any = read_json(path) if path.is_file() else {}
        kinds = {part: kind for kind, parts in stored.get("machines", {}).items() for part in parts}
    except (MixstyleError, AttributeError, TypeError):
        pass  # damaged: what is known now is better than nothing
    kinds |= made
    machines: dict[str, list[str]] = {}
    for part, kind in sorted(kinds.items()):
        machines.setdefault(kind, []).append(part)
    write_json(path, {"version": VERSION, "machines": machines}, checksum=True)
