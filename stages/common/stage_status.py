"""The state of a stage: what each stage's own `status.py` gives to `mixstyle status`."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.remote_folder import KeptFolder
from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import told

State = Literal["not started", "not needed", "partly done", "done", "stale", "damaged", "cannot be read"]
_UNREADABLE = frozenset({"remote", "no-package", "bad-setting"})
"""Codes of errors that tell nothing of an output behind a URL, but that it could not be looked at."""


@dataclass(frozen=True)
class StageStatus:
    """One stage."""

    stage: str
    state: State
    done: str = ""
    """What is there, in words."""
    problems: tuple[str, ...] = ()
    """What failed, what is stale and why, what could not be compared."""
    run: str = ""
    """The command that goes on, quoted for a shell, without its --config; empty where nothing is left."""
    optional: bool = False
    """No other stage needs it: its command is never the next one."""


def is_begun(location: Path) -> bool:
    """Whether shards may be there: settings in a folder; of a URL only a look tells."""
    return bool(url_of(location)) or (location / SETTINGS).exists()


def not_opened(stage: str, error: MixstyleError, *music: str) -> StageStatus:
    """The state of a stage whose output cannot be opened. music: what its command has to be given."""
    run = shlex.join(["mixstyle", stage, *music])
    if error.code == "not-found":
        return StageStatus(stage, "not started", run=run)
    state = "cannot be read" if error.code in _UNREADABLE else "damaged"
    return StageStatus(stage, state, problems=(told(error),), run=helping(error, run))


def helping(error: MixstyleError, run: str) -> str:
    """The command that an error tells to run, where it is one of the same stage as `run`; else `run`."""
    own = list(error.remedy[:1]) == shlex.split(run)[1:2]
    return shlex.join(["mixstyle", *error.remedy]) if own else run


def made_at(kept: KeptFolder, name: str) -> str:
    """When a file was written, before other words; nothing for a copy of what is behind a URL, which tells no time."""
    if kept.is_remote:
        return ""
    made = datetime.fromtimestamp((kept.folder / name).stat().st_mtime).astimezone()
    return f"{made:%Y-%m-%d %H:%M}; "


def unnamed_told(unnamed: Mapping[str, int]) -> list[str]:
    """What `StemCache.unnamed` is, in words; nothing where there is none."""
    if not unnamed:
        return []
    told = f"{counted(len(unnamed), 'tar')} that no sidecar names ({size_text(sum(unnamed.values()))})"
    return [f"{told}: from a run that was killed or is still running"]


def size_text(size: float) -> str:
    """Bytes for people.

    >>> size_text(17), size_text(2_300_000)
    ('17 B', '2.3 MB')
    """
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB" if size < 1000 else f"{size / 1000:.2f} TB"
