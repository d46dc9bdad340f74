"""Descriptors in words, for tables and figures: those of a group, and how their values are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mixstyle.pipeline.descriptors.descriptor import Descriptor
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, GROUPS, columns


@dataclass(frozen=True)
class Kind:
    """A descriptor whatever the stem: that of the first stem that has it, and the column for each."""

    descriptor: Descriptor
    columns: Mapping[str, int]

    @property
    def title(self) -> str:
        """Words, without stem and unit."""
        return self.descriptor.title


def _kinds(group: str) -> list[Kind]:
    found: dict[str, dict[str, int]] = {}
    for column in columns(group=group):
        found.setdefault(DESCRIPTORS[column].kind, {})[DESCRIPTORS[column].stem] = column
    return [Kind(DESCRIPTORS[next(iter(of_stem.values()))], of_stem) for of_stem in found.values()]


KINDS: Mapping[str, Sequence[Kind]] = {group: _kinds(group) for group in GROUPS}
"""The kinds of descriptors by group, in the order of the table."""


def in_sentence(title: str) -> str:
    """A title within a sentence: `Crest factor` becomes `crest factor`; what is written in capitals stays."""
    return title if title[:2].isupper() else title[0].lower() + title[1:]


def shown_unit(unit: str) -> str:
    """A unit as tables show it: of what has none, nothing."""
    return "" if unit == "1" else unit


def shown(column: int, *values: float) -> str:
    """Values of a descriptor with the digits that it is good for, ` / ` between them; nothing is -0."""
    return " / ".join(f"{value:z.{DESCRIPTORS[column].digits}f}" for value in values)
