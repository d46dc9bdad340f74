"""Songs that a command leaves out or takes in part: each told with its reason, up to a number; then how many more."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.outputs import raise_for
from mixstyle.stages.common.progress import remark

MOST_LINES = 20
Target = TypeVar("Target")
Made = TypeVar("Made")


class LeftOut:
    """What one command tells of the songs that it leaves out, and of those whose files lack something."""

    def __init__(self, command: str) -> None:
        self.command = command
        self._told: Counter[str] = Counter()
        self._untold: dict[str, Counter[str]] = {"left out": Counter(), "in part": Counter()}

    def tell(self, song: object, reason: str) -> None:
        """A song that is left out, and why."""
        self._tell("left out", f"left out {song}: {reason}", reason)

    def note(self, song: object, note: str) -> None:
        """A song that is taken although something of it is missing; nothing where `note` is empty."""
        if note:
            self._tell("in part", f"{song}: {note}; the readable part is used", note)

    def end(self, where: str = "") -> None:
        """Those that had no line of their own, by kind. where: a file that has all that were left out."""
        for what, untold in self._untold.items():
            if untold:
                kinds = ", ".join(f"{count} {kind}" for kind, count in untold.most_common())
                see = f"; see {where}" if where and what == "left out" else ""
                remark(f"{self.command}: {sum(untold.values())} more {what}: {kinds}{see}")

    def _tell(self, what: str, line: str, reason: str) -> None:
        self._told[what] += 1
        if self._told[what] <= MOST_LINES:
            remark(f"{self.command}: {line}")
        else:
            self._untold[what][reason.partition(":")[0]] += 1


def each_song(
    command: str, songs: Sequence[Path], targets: Sequence[Target], work: Callable[[Path, Target, LeftOut], Made]
) -> list[Made]:
    """What `work` makes of each song and its target; songs that cannot be used are told and left out.

    Raises MixstyleError at once where an output cannot be written, else for what was left out once all is done.
    """
    made: list[Made] = []
    failed: list[MixstyleError] = []
    left_out = LeftOut(command)
    for song, target in zip(songs, targets, strict=True):
        try:
            made.append(work(song, target, left_out))
        except MixstyleError as error:
            if error.code == "cannot-write":
                raise
            failed.append(error)
            if len(songs) > 1:
                left_out.tell(song, str(error).removeprefix(f"{song}: "))
    left_out.end()
    raise_for(failed, command)
    return made
