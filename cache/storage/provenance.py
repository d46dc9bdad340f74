"""What an output was made from and how, stored beside it, so that outputs of different origin are never mixed.

A stage's outputs follow from its settings (those that shape outputs), from the versions of the code that computes them,
and from other files. `settings.json` beside the outputs, format version 2:

    {"version": 2, "stage": "train", "fingerprint": "<16 hex>", "settings": {name: value, ...},
     "versions": {name: whole number, ...}, "made_from": {name: hash, ...}, "notes": {name: text, ...}}

No name is there twice, and the fingerprint is of the three mappings joined. Notes are not compared. Version 1 had no
`versions`; what is there now was in `settings` or, where there was only one version, nowhere. So a version that is
not stored counts as 1. Files of other formats are refused.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.fingerprint import as_json, fingerprint
from mixstyle.cache.storage.place import Removable
from mixstyle.pipeline.core.errors import MixstyleError

SETTINGS = "settings.json"
"""Its name beside a stage's outputs."""
VERSION = 2
FIRST = 1
"""What a version counts as where it is not stored."""
_INPUT = "made_from."
_MISSING = object()


@dataclass(frozen=True)
class Provenance:
    """What an output was made from and how.

    stage: the command. settings: those that shape the output, by name. versions: of the code that computes it, of
    formats and rules. made_from: hashes of the inputs. notes: for later runs; no part of the comparison.
    fingerprint: of all but the notes; one read from a disk keeps that of its own names, also where they have others
    since. section: of the profile, where the settings are; the stage's where it is empty. It is for messages, and not
    stored.

    Raises ValueError where a name is there twice.
    """

    stage: str
    settings: Mapping[str, Any]
    versions: Mapping[str, int] = field(default_factory=dict)
    made_from: Mapping[str, Any] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = field(default="", compare=False)
    section: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        if len(self.flat) < len(self.settings) + len(self.versions) + len(self.made_from):
            raise ValueError(f"{self.stage}: settings, versions and inputs should have names of their own")
        if not self.fingerprint:
            object.__setattr__(self, "fingerprint", fingerprint(self.flat))

    @property
    def flat(self) -> dict[str, Any]:
        """Settings, versions and inputs by name, as JSON gives them back."""
        return as_json({**self.settings, **self.versions, **self.made_from})

    def to_json(self) -> dict[str, Any]:
        """What is stored."""
        parts = {name: as_json(getattr(self, name)) for name in ("settings", "versions", "made_from", "notes")}
        return {"version": VERSION, "stage": self.stage, "fingerprint": self.fingerprint, **parts}


def read_provenance(path: Path, renamed: Mapping[str, str] | None = None) -> Provenance:
    """What `guard` stored at `path`.

    renamed: old name -> new name, of what had another name in earlier versions; an input's old name as
    "made_from.NAME". Raises MixstyleError for a missing or
    damaged file or an unknown version.
    """
    return parse_provenance(read_json(path), path, renamed)


def parse_provenance(stored: Any, path: Path, renamed: Mapping[str, str] | None = None) -> Provenance:
    """As `read_provenance`, of JSON that was read. path: for messages."""
    version = stored.get("version") if isinstance(stored, dict) else None
    if version not in (1, VERSION):
        raise MixstyleError(
            f"{path}: version {version!r} is unknown to this mixstyle, which reads versions 1 and {VERSION}",
            code="unknown-version",
        )
    empty: dict[str, Any] = {}
    parts = [stored.get(name, empty) for name in ("settings", "versions", "made_from", "notes")]
    if "settings" not in stored or not all(isinstance(part, dict) for part in parts):
        raise MixstyleError(f"{path}: has no settings; it was not written by mixstyle", code="damaged-file")
    settings, versions, made_from, notes = parts
    if version == 1 and isinstance(settings.get("made_from"), dict):
        made_from, settings = settings["made_from"], {k: v for k, v in settings.items() if k != "made_from"}
    try:
        own = fingerprint({**stored["settings"], **versions, **(made_from if version == VERSION else {})})
    except ValueError as error:  # NaN, which is no JSON
        raise MixstyleError(f"{path}: damaged: {error}", code="damaged-file") from error
    renamed = renamed or {}
    inputs = {old.removeprefix(_INPUT): new for old, new in renamed.items() if old.startswith(_INPUT)}
    settings, versions, made_from = rename(settings, renamed), rename(versions, renamed), rename(made_from, inputs)
    try:
        return Provenance(str(stored.get("stage", "")), settings, versions, made_from, notes, own)
    except ValueError as error:
        raise MixstyleError(f"{path}: {error}", code="damaged-file") from error


def stored_fingerprint(path: Path) -> str:
    """The fingerprint that is in a file of `guard`, of what was stored then. Raises MixstyleError as above."""
    return str(read_json(path).get("fingerprint", ""))


def rename(stored: Mapping[str, Any], renamed: Mapping[str, str]) -> dict[str, Any]:
    """Stored names as they are now.

    >>> rename({"threads_per_lane": 2}, {"threads_per_lane": "threads_per_stream"})
    {'threads_per_stream': 2}
    """
    return {renamed.get(name, name): value for name, value in stored.items()}


def differences(
    old: Provenance,
    new: Provenance,
    *,
    absent: Mapping[str, Any] | None = None,
    told: Mapping[str, str] | None = None,
) -> list[str]:
    """One text for each thing that differs, sorted by name; settings inside settings are named with dots.

    absent: what a setting counts as where it is not stored, of those that came later. told: name -> text that tells a
    change better than the two values; an empty one hides it.

    >>> old, new = (Provenance("train", {"seed": 0, "mel": {"bands": n}}) for n in (128, 64))
    >>> differences(old, new)
    ['train.mel.bands: 128 -> 64']
    """
    lines = []
    for name, (was, now) in _changes(old, new, absent or {}).items():
        lines.append((told or {}).get(name, f"{_called(name, old, new)}: {was} -> {now}"))
    return [line for line in lines if line]


def guard(
    path: Path,
    provenance: Provenance,
    *,
    rebuild: bool,
    remove: Sequence[Removable] = (),
    renamed: Mapping[str, str] | None = None,
    absent: Mapping[str, Any] | None = None,
    told: Mapping[str, str] | None = None,
    remedy: Sequence[str] = (),
    vouched: Callable[[str], bool] | None = None,
    fitting_too: bool = False,
) -> Provenance:
    """Makes sure that what is beside `path` (`<out>/settings.json`) has this provenance; as it is stored there.

    Nothing there: the provenance is written. An equal one: nothing happens, and what is stored keeps its fingerprint.
    Another one, or outputs without any: with `rebuild` the outputs in `remove` are deleted and the provenance written,
    else MixstyleError (code "stale") names each thing that changed and says what to do. Deletion comes first, so that
    a run killed in between is still refused or rebuilt, never mixed.

    remove: all outputs (files or folders, or what a place keeps: `Place.outputs`). renamed: as for `read_provenance`.
    absent, told: as for `differences`.
    remedy: the command that rebuilds, if not `STAGE --rebuild`. vouched: whether the outputs themselves tell that they
    were made under a fingerprint; asked where the file is lost or damaged, which is then written again.
    fitting_too: `rebuild` deletes outputs of an equal one too.
    """
    stored, wrong = None, ""
    if path.exists():
        try:
            stored = read_provenance(path, renamed)
            if not _changes(stored, provenance, absent or {}):
                if not (rebuild and fitting_too):
                    return stored
                for output in remove:
                    _delete(output)
                return stored
            changed = differences(stored, provenance, absent=absent, told=told)
            wrong = f"was made with other settings ({'; '.join(changed)})"
        except MixstyleError as error:
            wrong = error.message
    elif found := next((output for output in remove if output.exists() or output.is_symlink()), None):
        wrong = f"holds {found.name} but no {path.name} that says how it was made"
        if isinstance(found, Path) and found.parent != path.parent:  # as the logs of a training are
            wrong = (
                f"has no {path.name}, so nothing says how {found} was made; to keep that, name another folder for it, "
                "else"
            )
    if wrong and not stored and not rebuild and vouched is not None and vouched(provenance.fingerprint):
        wrong = ""
    if wrong and not rebuild:
        command = remedy or (provenance.stage, "--rebuild")
        undo = "; undo the change, or" if stored else ""
        raise MixstyleError(f"{path.parent}: {wrong}{undo}", code="stale", remedy=command)
    if wrong:
        for output in remove:
            _delete(output)
    write_json(path, provenance.to_json(), checksum=True)
    return provenance


def _called(name: str, old: Provenance, new: Provenance) -> str:
    """How a message calls what differs: a setting by its section too, a version or an input by its name alone."""
    inputs = {*old.versions, *new.versions, *old.made_from, *new.made_from}
    section = new.section or new.stage.replace("-", "_")
    return name.replace("_", " ") if name.partition(".")[0] in inputs else f"{section}.{name}"


def _changes(old: Provenance, new: Provenance, absent: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """What differs by name, and both values as text."""
    later = {name: value for name, value in absent.items() if name in new.flat}
    before = {**dict.fromkeys(new.versions, FIRST), **later, **old.flat}
    return _leaves(before, {**dict.fromkeys(old.versions, FIRST), **new.flat}, "")


def _leaves(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> dict[str, tuple[str, str]]:
    changes: dict[str, tuple[str, str]] = {}
    for key in sorted(old.keys() | new.keys()):
        name, was, now = prefix + key, old.get(key, _MISSING), new.get(key, _MISSING)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            changes.update(_leaves(was, now, name + "."))
        elif was != now and not _is_same_place(was, now):
            before, after = ("(not set)" if side is _MISSING else str(side) for side in (was, now))
            changes[name] = (before, after)
    return changes


def _is_same_place(was: Any, now: Any) -> bool:
    """Whether two texts name one file or folder that is there, spelled otherwise: `music`, `./music/` or by a link.

    A hash in brackets may follow it and has to be the same. Lists are compared item by item.
    """
    if isinstance(was, list) and isinstance(now, list):
        pairs = zip(was, now, strict=False)
        return len(was) == len(now) and all(a == b or _is_same_place(a, b) for a, b in pairs)
    if not isinstance(was, str) or not isinstance(now, str):
        return False
    (first, _, hash_was), (second, _, hash_now) = was.rpartition(" ("), now.rpartition(" (")
    for one, other in ((was, now), (first, second) if hash_was == hash_now else (was, now)):
        with suppress(OSError, ValueError):
            if one and Path(one).samefile(other):
                return True
    return False


def _delete(path: Removable) -> None:
    if isinstance(path, Path) and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
