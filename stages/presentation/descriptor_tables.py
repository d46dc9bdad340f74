"""Tables of descriptors on a terminal: a row a kind, a column a stem."""

from collections.abc import Callable

from rich.table import Table

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.presentation.descriptor_names import KINDS, shown_unit


def add_descriptor_rows(table: Table, cell: Callable[[int | None], str]) -> None:
    """Adds a row for each kind of descriptor, by group.

    cell: the text of a column, or of None where a stem does not have the descriptor.
    """
    for group, of_group in KINDS.items():
        table.add_section()
        table.add_row(f"[bold]{group}[/bold]")
        for kind in of_group:
            cells = [cell(kind.columns.get(stem)) for stem in STEMS]
            table.add_row(f"  {kind.title}", shown_unit(kind.descriptor.unit), *cells)
