"""What one process of a cluster does: it opens a stage once, and then makes numbered parts of its output.

What makes parts is a class of the stage, a `Maker`; here it is found by its name, opened, and asked. A part (a shard of
`separate` or `remix`, a shard's rows of `features`) is made by the code that a local run uses, under the shard's own
lock, and is done when the output says so. So it does not matter who makes it, or how often.

Answers are dicts, errors among them: `{"error": line, "code": ..., "remedy": [...]}`.
"""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.stages.settings.profile import Settings, from_plain, plain

Answer = dict[str, Any]


class Maker(Protocol):
    """What an actor runs; made of settings, options and a stack that it is closed by."""

    @property
    def machine(self) -> str:
        """The machine's kind, where that is another than the output was begun on; else empty."""
        ...

    def make(self, part: Any) -> Answer:
        """Makes a part. `{"elsewhere": True}` where another process is at it."""
        ...


class Actor:
    """A process of a cluster. request: of `request_of`. Nothing is loaded before `open` is called."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self._request = request
        self._stack = ExitStack()
        self._maker: Maker | None = None

    def open(self) -> Answer:
        """Loads what the stage needs; `{"machine": kind, "host": name}`, the kind empty where it is the output's."""
        return _answered(self._open)

    def make(self, part: Any) -> Answer:
        """Makes a part: what the maker says of it, and `machine` where that is of another kind."""
        maker = self._maker
        if maker is None:
            raise RuntimeError("an actor is to be opened first")
        answer = _answered(lambda: maker.make(part))
        return answer | {"machine": maker.machine} if maker.machine else answer

    def close(self) -> None:
        """Gives locks, processes and threads back."""
        self._stack.close()

    def _open(self) -> Answer:
        folder, host = Path(self._request["folder"]), os.uname().nodename
        try:
            os.chdir(folder)  # the settings' paths are relative to where the command was given
        except OSError as error:
            raise MixstyleError(
                f"{folder}: not there on {host}; every machine has to see the command's folder under the same path",
                code="not-found",
            ) from error
        keep_freed_memory()
        module, _, name = self._request["maker"].partition(":")
        make: Callable[..., Maker] = getattr(import_module(module), name)
        self._maker = make(from_plain(self._request["settings"]), self._request["options"], self._stack)
        return {"machine": self._maker.machine, "host": host}


def request_of(maker: str, settings: Settings, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What `Actor` is made of. maker: `MODULE:CLASS`. settings: as the actor is to have them. options: the maker's."""
    return {"maker": maker, "settings": plain(settings), "folder": str(Path.cwd()), "options": dict(options or {})}


def raised(answer: Answer) -> Answer:
    """The answer. Raises the MixstyleError that it tells of."""
    if "error" in answer:
        raise MixstyleError(answer["error"], code=answer["code"], remedy=tuple(answer["remedy"]))
    return answer


def _answered(work: Callable[[], Answer]) -> Answer:
    try:
        return work()
    except MixstyleError as error:
        return {"error": error.message, "code": error.code, "remedy": list(error.remedy)}
