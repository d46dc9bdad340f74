"""`mixstyle status`: what each stage has done, what is left, what failed, what is stale and why.

Each stage answers by a function of its own (`status.py` in its package), which compares what is on the disk with
what the stage would make now, and changes nothing. These are the answers together.
"""

import shlex
import sys
from dataclasses import dataclass, replace

from mixstyle.pipeline.core.text import printable
from mixstyle.stages.common.commands import ANY_FOLDER, completed
from mixstyle.stages.common.progress import say
from mixstyle.stages.common.stage_status import StageStatus
from mixstyle.stages.demo_songs.status import demo_songs_status
from mixstyle.stages.evaluate.status import evaluate_status
from mixstyle.stages.features.status import features_status
from mixstyle.stages.remix.status import remix_status
from mixstyle.stages.report.status import report_status
from mixstyle.stages.separate.status import separate_status
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.index.status import index_status
from mixstyle.stages.steps.first_step import what_separate_lacks
from mixstyle.stages.train.status import train_status

COLOURS: dict[str, str] = {
    "done": "green",
    "partly done": "yellow",
    "stale": "red",
    "damaged": "red",
    "cannot be read": "red",
}


@dataclass(frozen=True)
class StatusSummary:
    """All stages, in their order."""

    stages: tuple[StageStatus, ...]

    def __getitem__(self, stage: str) -> StageStatus:
        return next(found for found in self.stages if found.stage == stage)

    @property
    def next_command(self) -> str:
        """The command to give now; empty when all that is needed is done."""
        return next((found.run for found in self.stages if found.run and not found.optional), "")

    @property
    def left(self) -> tuple[StageStatus, ...]:
        """Optional stages that were begun and are not as they would be made now."""
        return tuple(found for found in self.stages if found.optional and found.run and found.state != "not started")


def status(settings: Settings) -> StatusSummary:
    """Prints and returns the state of each stage of the profile. Never raises for what it finds on the disk."""
    songs = demo_songs_status(settings)
    cache, separate = separate_status(settings)
    if separate.state == "not started" and not songs.run:
        separate = _what_has_to_be_first(separate, settings)
    bank, remix = remix_status(settings, cache)
    store, features = features_status(settings, cache, bank)
    train, report = train_status(settings, cache, store), report_status(settings, cache, store)
    evaluate, index = evaluate_status(settings, cache), index_status(settings)
    summary = StatusSummary((songs, separate, remix, features, train, report, evaluate, index))
    _print(summary, settings)
    return summary


def _what_has_to_be_first(separate: StageStatus, settings: Settings) -> StageStatus:
    """`separate` with what it would refuse to begin without, and with a command that works."""
    lacking = what_separate_lacks(settings)
    if lacking is None:
        return separate
    # rendered songs are to try things on: a profile for your own music waits for its folder
    words = ("separate", "--data-path", ANY_FOLDER) if lacking.remedy[0] == "demo-songs" else lacking.remedy
    problem = lacking.told(completed(lacking.remedy, settings))
    return replace(separate, problems=(*separate.problems, problem), run=shlex.join(["mixstyle", *words]))


def _print(summary: StatusSummary, settings: Settings) -> None:
    """A table on a terminal, a line each elsewhere; what needs attention below, in full."""

    def command(run: str) -> str:
        return completed(shlex.split(run)[1:], settings)

    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("stage", "state", "what is there", box=None, pad_edge=False, header_style="bold")
        for found in summary.stages:
            colour = COLOURS.get(found.state, "dim")
            done = Text(printable(found.done or f"run: {command(found.run)}"))  # its paths are no markup
            table.add_row(found.stage, Text(found.state, style=colour), done)
        Console().print(table)
    else:
        for found in summary.stages:
            say(f"{found.stage}: {found.state}; " + (found.done or f"run: {command(found.run)}"))
    for found in summary.stages:
        for problem in found.problems:
            say(f"{found.stage}: {problem}")
    for found in summary.left:
        say(f"{found.stage}: to bring it up to date, run: {command(found.run)}")
    if summary.next_command:
        say(f"next: {command(summary.next_command)}")
    else:
        say("nothing else is left to do" if summary.left else "nothing is left to do")
