"""The tables that an evaluation prints."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixstyle.stages.common.progress import say
from mixstyle.stages.evaluate.tasks.page_parts import first_of
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.evaluate.tasks.task import Metrics, TextTable
from mixstyle.stages.presentation.estimates import evidence_note

SHARED_TITLE = (
    "other tasks, through the mix (stems: ... as processed; song top-1: mixes as they are; song probe: lower knows "
    "less of the song)"
)


def show(metrics: Metrics) -> None:
    """Prints a table for each task that was asked for; those with few figures share one."""
    console = Console(width=None if Console().is_terminal else 150)
    asked = [task for task in TASKS.values() if task.key in metrics]
    tables = [task.table(metrics) for task in asked if task.table is not None]
    shared = shared_table(metrics)
    for table in tables[:1] + ([shared] if shared else []) + tables[1:]:
        console.print(Text(table.title))  # not the table's own title, which is broken to the table's width
        console.print(_rich(table))
    if note := evidence_note(metrics["songs"]):
        say(f"evaluate: {note}")


def shared_table(metrics: Metrics) -> TextTable | None:
    """The table of all tasks' columns; None where no task that was asked for has any."""
    columns = [column for task in TASKS.values() for column in task.columns if column.key in metrics]
    if not columns:
        return None
    rows: list[Sequence[str]] = [
        [row, *(column.show(metrics[column.key][row]) for column in columns)] for row in metrics["rows"]
    ]
    chances = [
        f"{100 * first_of(metrics[column.key], column.chance):.1f}" if column.chance else "0.00" for column in columns
    ]
    return TextTable(SHARED_TITLE, "", [column.title for column in columns], [*rows, ["chance", *chances]])


def _rich(content: TextTable) -> Table:
    table = Table(content.first)
    for head in content.heads:
        table.add_column(Text(head), justify="right")
    for row in content.rows:
        table.add_row(*(Text(cell) for cell in row))
    return table
