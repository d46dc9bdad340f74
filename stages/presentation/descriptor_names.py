"""Descriptors in words, for tables and figures: those of a group, what they are called, how they are written."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.table import GROUPS

_HZ = re.compile(r"octave_(\d+)hz")
_WORDS = {"rms": "RMS", "band": "Band level", "mid_side": "Mid/side ratio", "crest": "Crest factor"}
_UNIT_TAILS = ("_dbfs", "_db_per_octave", "_lufs", "_lu", "_db", "_share")


@dataclass(frozen=True)
class Kind:
    """A descriptor that every stem has: its name without the stem, its unit and the column for each stem."""

    name: str
    unit: str
    columns: Mapping[str, int]


def kinds(table: Sequence[Mapping[str, Any]], group: str) -> list[Kind]:
    """The descriptors of a group, in the order of the table."""
    found: dict[str, tuple[str, dict[str, int]]] = {}
    for column, row in enumerate(table):
        if row["group"] == group:
            base = row["name"].removeprefix(f"{row['stem']}_")
            found.setdefault(base, (row["unit"], {}))[1][row["stem"]] = column
    return [Kind(name, unit, columns) for name, (unit, columns) in found.items()]


def title(name: str) -> str:
    """`mid_side_low_db` as `Mid/side ratio, low`: words for a panel's title, without the unit."""
    for tail in _UNIT_TAILS:
        if name.endswith(tail):
            name = name.removesuffix(tail)
            break
    name = _HZ.sub(r"octave at \1 Hz", name.replace("masked", "masked share"))
    for short, long in _WORDS.items():
        if name == short or name.startswith(f"{short}_"):
            rest = name.removeprefix(short).strip("_").replace("_", " ")
            name = f"{long}, {rest}" if rest else long
            break
    text = name.replace("_", " ")
    return text[0].upper() + text[1:]


KINDS: Mapping[str, Sequence[Kind]] = {
    group: kinds([{"group": d.group, "stem": d.stem, "name": d.name, "unit": d.unit} for d in DESCRIPTORS], group)
    for group in GROUPS
}
"""This mixstyle's own descriptors, by group."""


def own_title(column: int) -> str:
    """A descriptor's title without its stem."""
    descriptor = DESCRIPTORS[column]
    return title(descriptor.name.removeprefix(f"{descriptor.stem}_"))


def shown_unit(unit: str) -> str:
    """A unit as tables show it: of what has none, nothing."""
    return "" if unit == "1" else unit


def shown(column: int, *values: float) -> str:
    """Values of a descriptor with the digits that it is good for, ` / ` between them."""
    digits = 2 if DESCRIPTORS[column].unit in ("1", "dB/octave") else 1
    return " / ".join(f"{value:.{digits}f}" for value in values)
