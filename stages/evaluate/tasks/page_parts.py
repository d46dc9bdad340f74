"""What the sections of the page share: the rows' colours, which rows have a panel, cells of tables."""

from collections.abc import Mapping, Sequence

from mixstyle.stages.evaluate.tasks.metrics import DESCRIPTORS, MFCC, WHITENED
from mixstyle.stages.presentation.figures import SONG_COLOURS

UNTRAINED = "untrained"
BASELINES = {UNTRAINED: "#B0B0B0", WHITENED: "#1F1F1F", DESCRIPTORS: "#555555", MFCC: "#8C6D31"}
"""Rows without a network that was trained, with their colours."""


def colours_of(rows: Sequence[str]) -> dict[str, str]:
    """A colour for each row: baselines have theirs, the others those of the report."""
    own = [row for row in rows if row not in BASELINES]
    return {row: SONG_COLOURS[own.index(row) % len(SONG_COLOURS)] if row in own else BASELINES[row] for row in rows}


def rows_with_a_panel(rows: Sequence[str]) -> list[str]:
    """Rows that figures with a panel each show: two at most, and the descriptors."""
    return [*[row for row in rows if row not in BASELINES][:2], DESCRIPTORS]


def number(value: float, digits: int = 2) -> tuple[str, str]:
    """A cell without an interval."""
    return f"{value:.{digits}f}", ""


def first_of(entries: Mapping[str, Mapping[str, float]], key: str) -> float:
    """A figure that is the same for all rows, such as chance."""
    return next(iter(entries.values()))[key]
