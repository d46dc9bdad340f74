"""Whether a folder holds what an unbroken run made: bytes, or values where a format tells when or in how many goes it
was made (seconds of training in checkpoints, the parts of an index)."""

from pathlib import Path
from typing import Any

import torch
from torture.children import in_child
from torture.commands import STAGES, Stage

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.cache.song_index.index import SongIndex

UNCOMPARED = ("logs",)
"""TensorBoard's files, which have the time and the process in their names."""
SECONDS = "training_seconds"


def differences(work: Path, reference: Path, stages: tuple[Stage, ...] = STAGES) -> list[str]:
    """What of the stages' outputs is missing, left over or other than in the reference; in a process of its own."""
    found = in_child(lambda: list(_differences(work, reference, stages)), work.parent / "compared.json")
    return [f"cannot be compared: {found}"] if isinstance(found, str) else found


def _differences(work: Path, reference: Path, stages: tuple[Stage, ...]) -> list[str]:
    names = {name for stage in stages for name in stage.made if name not in UNCOMPARED}
    found: list[str] = []
    for name in sorted(names):
        if name == "index":
            found += _index_differs(work / name, reference / name)
            continue
        there, wanted = _files(work, name), _files(reference, name)
        found += [f"lacks {path}" for path in sorted(wanted - there)]
        found += [f"left over: {path}" for path in sorted(there - wanted)]
        found += [f"differs: {path}" for path in sorted(there & wanted) if not _equal(work / path, reference / path)]
    allowed = {Path(name).name for stage in STAGES for name in stage.made} | {path.name for path in reference.iterdir()}
    strange = {path.name for path in work.iterdir() if path.suffix != ".lock"} - allowed
    return found + [f"left over: {name}" for name in sorted(strange)]


def _files(folder: Path, name: str) -> set[str]:
    path = folder / name
    found = path.rglob("*") if path.is_dir() else [path]
    return {str(file.relative_to(folder)) for file in found if file.is_file() and not file.name.endswith(".lock")}


def _equal(ours: Path, theirs: Path) -> bool:
    if ours.read_bytes() == theirs.read_bytes():
        return True
    if ours.suffix == ".html":
        # pages link to those of other commands that are there
        return ours.read_text(encoding="utf-8").rstrip().endswith("</html>")
    return ours.suffix == ".pt" and _same(_content(ours), _content(theirs))


def _content(path: Path) -> dict[str, Any]:
    return {name: value for name, value in load_checkpoint(path).items() if name != SECONDS}


def _same(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, torch.Tensor):
        return isinstance(theirs, torch.Tensor) and torch.equal(ours, theirs)
    if isinstance(ours, dict):
        return (
            isinstance(theirs, dict) and ours.keys() == theirs.keys() and all(_same(ours[k], theirs[k]) for k in ours)
        )
    if isinstance(ours, list | tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return ours == theirs


def _index_differs(ours: Path, theirs: Path) -> list[str]:
    if not theirs.exists():
        return []
    if not (ours / "settings.json").is_file():
        return ["lacks index"]
    found = [f"left over: index/{path.name}" for path in ours.iterdir() if path.name.endswith(".partial")]
    if (ours / "settings.json").read_bytes() != (theirs / "settings.json").read_bytes():
        found.append("differs: index/settings.json")
    here, there = SongIndex(ours), SongIndex(theirs)
    if _rows(here) != _rows(there):
        found.append("differs: the songs of the index")
    if not (ours / "nearest.faiss").is_file() or not here.nearest_is_whole():
        found.append("differs: index/nearest.faiss")
    return found


def _rows(index: SongIndex) -> list[tuple[Any, ...]]:
    return [
        (song.path, song.bytes, song.modified_ns, song.duration_s, song.embedding.tobytes(), song.descriptors.tobytes())
        for song in index.usable
    ]
