"""A comparison as text: in the terminal, as JSON and as CSV."""

import math
from functools import partial
from typing import Any

import numpy as np
from rich.table import Table
from rich.text import Text

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import as_utf8, printable
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.table import GROUPS
from mixstyle.stages.presentation.audible_differences import in_words
from mixstyle.stages.presentation.descriptor_names import shown
from mixstyle.stages.presentation.descriptor_tables import add_descriptor_rows
from mixstyle.stages.presentation.terminal import output
from mixstyle.stages.presentation.values import as_csv, percent, rounded
from mixstyle.stages.songs.compare.comparison import Comparison

VERSION = 1
"""Of the JSON file."""
_COLUMNS = ("name", "group", "stem", "unit", "first", "second", "deviations_apart")
FAR = 2.0
"""Differences above this many robust standard deviations are told in bold."""


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """The comparison, as JSON has it; differences are in robust standard deviations."""
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(found)]
    return {
        "version": VERSION,
        "songs": [as_utf8(name) for name in found.names],
        "heard": [
            {"stem": d.stem, "aspect": d.aspect, "change": d.change, "steps": d.steps, "text": d.text}
            for d in found.heard
        ],
        "cosine": rounded(found.cosine),
        "closer_than": rounded(found.closer_than),
        "loudness": [loudness.to_json() if loudness else None for loudness in found.loudness],
        "distances": {
            stem: {group or "all": rounded(found.distance(stem, group)) for group in (*GROUPS, None)} for stem in STEMS
        },
        "descriptors": rows,
    }


def comparison_as_csv(found: Comparison) -> str:
    """A row a descriptor: the values of both, and how far they are apart."""
    return as_csv(_COLUMNS, _rows(found))


def _rows(found: Comparison) -> list[tuple[Any, ...]]:
    return [
        (
            *(d.name, d.group, d.stem, d.unit, rounded(found.values[0, column]), rounded(found.values[1, column])),
            rounded(found.apart[column]) if found.counted[column] else None,
        )
        for column, d in enumerate(DESCRIPTORS)
    ]


def show(found: Comparison) -> None:
    """Prints what is heard, the distance, a table of stems, and one of descriptors."""
    console = output()
    names = [printable(name) for name in found.names]
    console.print(Text(f"{names[1]}, against {names[0]}: {in_words(found.heard)}"))
    near = f"; closer than {percent(found.closer_than)} of the index's pairs of songs"
    near = "" if math.isnan(found.closer_than) else near
    console.print(Text(f"{names[0]} and {names[1]}: cosine {found.cosine:.3f}{near}"))
    for name, loudness in zip(names, found.loudness, strict=True):
        if loudness is not None:
            console.print(Text(f"{name}: {loudness}"))
    stems = Table(
        title="how far apart, in robust standard deviations of the training songs", title_justify="left", box=None
    )
    for column in ("", *GROUPS, "all"):
        stems.add_column(column, justify="right" if column else "left")
    for stem in STEMS:
        cells = [found.distance(stem, group) for group in (*GROUPS, None)]
        stems.add_row(stem, *("-" if np.isnan(cell) else f"{cell:.2f}" for cell in cells))
    console.print(stems)
    caption = f"first / second; bold: more than {FAR:g} robust standard deviations apart"
    table = Table(title="descriptor by descriptor", title_justify="left", box=None, caption=caption)
    table.add_column("")
    table.add_column("unit", style="dim")
    for stem in STEMS:
        table.add_column(stem, justify="right")
    add_descriptor_rows(table, partial(_cell, found))
    console.print(table)


def _cell(found: Comparison, column: int | None) -> str:
    if column is None or not found.counted[column]:
        return "[dim]-[/dim]"
    text = shown(column, *found.values[:, column])
    return f"[bold]{text}[/bold]" if abs(found.apart[column]) > FAR else text
