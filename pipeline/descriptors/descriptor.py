"""What a descriptor is, and the decorator that declares a group of them.

A group is a module of this package whose name begins with `group_`: a list of descriptors, and one function that
measures them. `table` imports every such module and puts the columns together. What only reads the table is not to wait
for torch: a group imports it, and the helpers of `measured`, where it measures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from mixstyle.pipeline.descriptors.measured import Measured

_STORED = ("name", "group", "stem", "unit", "formula", "source", "moves_with_level")


@dataclass(frozen=True, kw_only=True)
class Descriptor:
    """One column of `describe`: a kind of measurement of one stem."""

    stem: str
    kind: str
    """The name without the stem; ends with the unit, such as `rms_left_dbfs`."""
    unit: str
    formula: str
    """In words and symbols that docs/descriptors.md explains, with the floors."""
    source: str
    title: str
    """Words for tables and figures, without stem and unit."""
    group: str = ""
    """Given by the group that declares it."""
    moves_with_level: bool = False
    """Whether a gain of g dB on all stems moves it by g; all others stay as they are."""
    without_stem: bool = False
    """Whether it means something of a stem that is not there, as loudness does."""
    other_stem: str | None = None
    """The other stem that it is measured against: figures show these shares as a matrix."""
    octave_hz: float | None = None
    """Centre of the octave that it is the level of: figures show these as a curve."""
    region: str | None = None
    """The wide band that it is measured in: low, mid or high."""
    digits: int = 1
    """Decimal places that it is shown with."""

    @property
    def name(self) -> str:
        """Unique; stem and kind, such as `vocals_rms_left_dbfs`."""
        return f"{self.stem}_{self.kind}"

    def stored(self) -> dict[str, Any]:
        """What stores of descriptors keep of it."""
        return {name: getattr(self, name) for name in _STORED}


@dataclass(frozen=True)
class Group:
    """Descriptors that are measured together. place: groups follow one another by rising places."""

    name: str
    place: int
    table: Callable[[str], Sequence[Descriptor]]
    """The descriptors of a stem, in order."""
    measure: "Measure"
    """The values [B, 4, n] of the n descriptors of each stem."""

    def descriptors(self, stem: str) -> list[Descriptor]:
        """The group's descriptors of a stem."""
        return [replace(descriptor, group=self.name) for descriptor in self.table(stem)]


Measure = Callable[["Measured"], "Tensor"]

_DECLARED: dict[str, Group] = {}


def group(name: str, table: Callable[[str], Sequence[Descriptor]], *, place: int) -> Callable[[Measure], Measure]:
    """Declares the function below it as what measures a group; the arguments are the fields of `Group`.

    Raises ValueError for a name or a place that is taken.
    """

    def declare(measure: Measure) -> Measure:
        taken = [other.name for other in _DECLARED.values() if other.name == name or other.place == place]
        if taken:
            raise ValueError(f"descriptors {name!r} at place {place}: {taken[0]!r} has that name or place")
        _DECLARED[name] = Group(name, place, table, measure)
        return measure

    return declare


def declared_groups() -> tuple[Group, ...]:
    """The groups declared so far, by their places."""
    return tuple(sorted(_DECLARED.values(), key=lambda one: one.place))
