"""Notices that a cache was made with other settings.

`settings.json` beside a stage's outputs, version 1:
`{"version": 1, "stage": "separate", "fingerprint": "<16 hex>", "settings": {name: value, ...}}`.
The fingerprint is of the settings alone. Files of unknown versions are refused.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.pipeline.core.errors import MixstyleError

VERSION = 1


def fingerprint(settings: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of the settings as canonical JSON (order of keys does not matter).

    >>> fingerprint({"a": 1, "b": [2.5, None]}) == fingerprint({"b": [2.5, None], "a": 1})
    True
    """
    text = json.dumps(_plain(settings), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One text for each setting that differs, sorted by name; sections inside are named with dots.

    >>> differences({"clip_s": 10.0, "mel": {"bands": 128}}, {"clip_s": 5.0, "mel": {"bands": 64}})
    ['clip_s: 10.0 -> 5.0', 'mel.bands: 128 -> 64']
    """
    return [f"{name}: {before} -> {after}" for name, (before, after) in _changes(_plain(old), _plain(new)).items()]


def guard(
    path: Path,
    settings: Mapping[str, Any],
    *,
    stage: str,
    rebuild: bool,
    remove: Sequence[Path] = (),
    notes: Mapping[str, str] | None = None,
) -> str:
    """Makes sure that what lies beside `path` (`<out>/settings.json`) was made with `settings`; their fingerprint.

    Nothing there: the settings are written. Equal settings: nothing happens. Other settings, or outputs without
    settings: with `rebuild` the outputs in `remove` are deleted and the settings written, else MixstyleError names
    each setting that changed and says what to do. Deletion comes first, so that a run killed in between is still
    refused or rebuilt, never mixed.

    remove: all outputs (files or folders) that depend on the settings. notes: setting -> text that tells its change
    better than the two values; an empty one hides it.
    """
    print_of_settings = fingerprint(settings)
    wrong = _why_stale(path, settings, stage, remove, notes or {})
    if wrong == "":
        return print_of_settings
    if wrong is not None and not rebuild:
        raise MixstyleError(f"{path.parent}: {wrong}; go back to what it was, or make it anew with --rebuild")
    if wrong is not None:
        for output in remove:
            _delete(output)
    stored = {"version": VERSION, "stage": stage, "fingerprint": print_of_settings, "settings": _plain(settings)}
    write_json(path, stored)
    return print_of_settings


def read_settings(path: Path) -> dict[str, Any]:
    """The settings stored by `guard`. Raises MixstyleError for a missing file or an unknown version."""
    stored = read_json(path)
    if not isinstance(stored, dict) or stored.get("version") != VERSION or not isinstance(stored.get("settings"), dict):
        version = stored.get("version") if isinstance(stored, dict) else None
        raise MixstyleError(f"{path}: version {version!r} is unknown to this mixstyle, which reads version {VERSION}")
    return stored["settings"]


def _why_stale(
    path: Path, settings: Mapping[str, Any], stage: str, outputs: Sequence[Path], notes: Mapping[str, str]
) -> str | None:
    """None: nothing is there yet. Empty: made with these settings. Else: what is wrong."""
    if not path.exists():
        found = next((output for output in outputs if output.exists() or output.is_symlink()), None)
        return f"holds {found.name} but no {path.name} that says how it was made" if found else None
    try:
        old = read_settings(path)
    except MixstyleError as error:
        return str(error)
    changes = _changes(old, _plain(settings))
    if not changes:
        return ""
    told = [notes.get(name, f"{stage}.{name}: {before} -> {after}") for name, (before, after) in changes.items()]
    return f"was made with other settings ({'; '.join(text for text in told if text)})"


def _changes(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> dict[str, tuple[str, str]]:
    changes: dict[str, tuple[str, str]] = {}
    for key in sorted(old.keys() | new.keys()):
        name = prefix + key
        if key in old and key in new and isinstance(old[key], Mapping) and isinstance(new[key], Mapping):
            changes.update(_changes(old[key], new[key], name + "."))
        elif key not in old or key not in new or old[key] != new[key]:
            before, after = (str(side[key]) if key in side else "(not set)" for side in (old, new))
            changes[name] = (before, after)
    return changes


def _plain(value: Any) -> Any:
    """The value as JSON gives it back: tuples as lists, paths as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.as_posix() if isinstance(value, PurePath) else value


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
