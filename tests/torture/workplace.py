"""The folder that commands are broken in, and what a trial comes to."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torture.commands import LIMIT_S, Run, Stage, one_line_told
from torture.outcomes import differences

TIMES = 10
"""How much longer than an unbroken run a command may take, on a machine that does other work by then."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to. what: how it was broken. met: what was seen. problem: what did not hold, or empty."""

    kind: str
    stage: str
    what: str
    met: str
    problem: str = ""


class Workplace:
    """A folder to break things in, with what an unbroken run made there.

    took_s, writes: seconds that each stage took then, and how often it wrote.
    """

    def __init__(self, folder: Path, took_s: dict[str, float], writes: dict[str, int]) -> None:
        self.work, self.reference, self.took_s, self.writes = folder / "work", folder / "reference", took_s, writes

    def run(self, stage: Stage, *more: str, prepare: Callable[[], None] = lambda: None) -> Run:
        """Starts a stage's command."""
        limit_s = max(LIMIT_S, TIMES * self.took_s.get(stage.name, 0.0))
        return Run(self.work, (stage.name, *stage.words, *more), prepare, limit_s)

    def differ(self, stage: Stage) -> list[str]:
        """What of a stage's outputs is not as an unbroken run made it."""
        return differences(self.work, self.reference, (stage,))


def finish(place: Workplace, stage: Stage, prepare: Callable[[], None] = lambda: None) -> str:
    """Runs the stage's command to its end and compares; what does not hold."""
    run = place.run(stage, prepare=prepare)
    try:
        status = run.wait()
    except TimeoutError as error:
        return str(error)
    said = run.said()
    run.forget()
    if status != 0:
        return f"the same command ended with {status}: {said[-800:]}"
    found = place.differ(stage)
    return "; ".join(found[:6])


def refused_well(run: Run) -> str:
    """Why a command that ended did so otherwise than well or in one line; "" where it did not."""
    status = run.poll()
    said = run.said()
    if status == 0 or (status == 1 and one_line_told(said)):
        return ""
    return f"ended with {status}, and said {said[-600:]}"
