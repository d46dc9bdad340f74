"""The commands that messages tell people to run, complete with the options that this run was given.

Code raises `MixstyleError(..., remedy=("features", "--rebuild"))`, which knows of no profile. The command line notes
what it was called with (`begin`), and `completed` adds those options that the other command needs: what is printed can
be run as it is.
"""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.provenance import SETTINGS, read_provenance
from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import shell_words
from mixstyle.stages.common.notes import begin_notes

ENVIRONMENT = "MIXSTYLE_CALLED_WITH"
"""Tells a process that this package starts what its parent was called with."""
OWN_MUSIC = "profile_data_path"
"""Note in the stems' provenance: the music folder that the profile named, whichever one was taken."""
_STEMS = ("separate", "remix", "features", "train")
_READS = {
    "demo-songs": ("demo_songs",),
    "separate": ("separate",),
    "remix": ("separate", "remix"),
    "features": ("separate", "remix", "features"),
    "train": _STEMS,
    "report": (*_STEMS, "report"),
    "evaluate": (*_STEMS, "evaluate"),
    "export": (*_STEMS, "report"),
    "index": ("separate", "embed"),
    "fetch-separator": (),
}
"""Sections of the settings that a command reads."""
_COMPARED = frozenset({"separate.clips_per_track", "separate.clip_s", "train.clip_duration_s", "remix.clip_s"})
"""Settings that have to go together: every command that is a step of a training refuses them where they do not."""
_COMPARE_NOTHING = ("index", "fetch-separator")
MUSIC = "separate.data_path"
ANY_FOLDER = "FOLDER"
"""Stands for a folder of music in commands of messages, where none is known."""
_OPTIONS = {
    "separate": {MUSIC: "--data-path"},
    "status": {MUSIC: "--data-path"},
    "index": {"embed.index_dir": "--index", "embed.encoder": "--encoder"},
}
"""Settings that a command has an option for; all others go by --set."""


@dataclass(frozen=True)
class CalledWith:
    """What a run was called with. overrides: of --set, as written. given: values of plain options by their settings'
    names, as JSON gives them back. own_music: the music folder that the profile names."""

    config: str
    overrides: tuple[str, ...] = ()
    given: Mapping[str, Any] | None = None
    own_music: str = ""

    def command(self, words: Sequence[str]) -> str:
        """A mixstyle command with those of these options that it reads, quoted for a shell."""
        stage, options = words[0], _OPTIONS.get(words[0], {})
        more, named = ["--config", self.config], {word.partition("=")[0] for word in words}
        for text in self.overrides:
            name = text.partition("=")[0].strip()
            if _reads(stage, name) and name not in named:
                more += ["--set", text]
        for name, value in (self.given or {}).items():
            if _reads(stage, name) and name not in named:
                text = value if isinstance(value, str) else json.dumps(value)
                said = [options[name], text] if name in options else ["--set", f"{name}={text}"]
                if said[0] == "--set" or said[0] not in words:
                    more += said
        return shell_words(["mixstyle", *words, *more])


def _reads(stage: str, name: str) -> bool:
    """Whether a command works otherwise, or not at all, without a setting that this run was given."""
    sections = _READS.get(stage)
    if sections is None or name.partition(".")[0].strip() in sections:
        return True
    return name in _COMPARED and stage not in _COMPARE_NOTHING


_called: tuple[CalledWith, object] | None = None
"""Of this process: threads that decode or wait tell of commands too."""


def begin(called: CalledWith, settings: object) -> None:
    """Notes what this run was called with, and the settings that followed from it."""
    global _called
    begin_notes()
    if inherited := os.environ.get(ENVIRONMENT):
        called = CalledWith(**json.loads(inherited))
    _called = (called, settings)


def called_environment() -> dict[str, str]:
    """What a process that goes on with this run's work needs to tell of the same options."""
    found = _called
    return {ENVIRONMENT: json.dumps(asdict(found[0]))} if found else {}


def completed(words: Sequence[str], settings: Any) -> str:
    """A command for a message of the run with these settings; without a command line, by the profile's name alone."""
    found = _called
    if found is not None and found[1] is settings:
        return found[0].command(words)
    return shell_words(["mixstyle", *words, *(["--config", settings.profile] if settings.profile else [])])


def called_settings() -> Any:
    """The settings that this run was called with; None before they are known."""
    found = _called
    return found[1] if found is not None else None


def told(error: MixstyleError) -> str:
    """An error's line for the user who gave the command."""
    found = _called
    return error.told(found[0].command(error.remedy)) if found and error.remedy else str(error)


@contextlib.contextmanager
def helped_by(*command: str) -> Iterator[None]:
    """What goes wrong inside is told with this command in place of a step's own, and with its `--rebuild`.

    For a command that runs other commands' steps in folders that are not the profile's.
    """
    try:
        yield
    except MixstyleError as error:
        if not error.remedy:
            raise
        again = ("--rebuild",) if "--rebuild" in error.remedy else ()
        raise MixstyleError(error.message, code=error.code, remedy=(*command, *again)) from error


def own_music(settings: Any) -> str:
    """The music folder that the profile names, where the command line named another one; else the settings' own."""
    found = _called
    named = found[0].own_music if found is not None and found[1] is settings else ""
    return named or shown(settings.separate.data_path)


def remembered_music(stems_dir: Path, own: Path) -> Path | None:
    """The music that the stems were made from, where it was named on the command line and the profile is as it was.

    own: the music folder that the profile names now. Stems made before this was noted count where `own` is not there.
    """
    if not (stems_dir / SETTINGS).is_file():
        return None
    # not for every command's help
    from mixstyle.cache.stem_store.stem_cache import RENAMED

    with contextlib.suppress(MixstyleError):
        stored = read_provenance(stems_dir / SETTINGS, RENAMED)
        made_from = stored.flat.get("data_path")
        noted = stored.notes.get(OWN_MUSIC)
        as_before = not own.exists() if noted is None else noted == shown(own)
        if isinstance(made_from, str) and as_before and Path(made_from) != own:
            return Path(made_from)
    return None
