"""The table of descriptors: what each value of `describe` is, in the order of its columns.

Columns go stem by stem (vocals, bass, drums, other), and within a stem group by group. The groups are the modules of
this package whose names begin with `group_`; the store's attributes and docs/descriptors.md are made of this table.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from mixstyle.pipeline import descriptors as package
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.descriptor import Descriptor, Group, declared_groups

DESCRIPTORS_VERSION: int = 2
"""Counts up whenever a value changes its meaning, so that stores made before are told apart."""

SONG_VALUES_VERSION: int = 3
"""Of the rule for a song's own descriptors (`song_values`). 1: medians of its clips. 2: but loudnesses are over the
clips in which a stem plays. 3: and so is all else."""


def _discovered() -> tuple[Group, ...]:
    for module in iter_modules(package.__path__):
        if module.name.startswith("group_"):
            import_module(f"{package.__name__}.{module.name}")
    return declared_groups()


DECLARED: tuple[Group, ...] = _discovered()
"""The groups, each with what measures it."""

GROUPS: tuple[str, ...] = tuple(group.name for group in DECLARED)
"""Their names."""

DESCRIPTORS: tuple[Descriptor, ...] = tuple(
    descriptor for stem in STEMS for group in DECLARED for descriptor in group.descriptors(stem)
)
"""The columns of `describe`, in order."""

COLUMN: Mapping[str, int] = {descriptor.name: column for column, descriptor in enumerate(DESCRIPTORS)}
"""The column of each descriptor by its name."""


def columns(**fields: object) -> list[int]:
    """The columns of all descriptors with these values of their fields, in order.

    >>> [DESCRIPTORS[column].name for column in columns(stem="bass", region="low")]
    ['bass_band_low_db', 'bass_mid_side_low_db']
    """
    return [
        column
        for column, descriptor in enumerate(DESCRIPTORS)
        if all(getattr(descriptor, name) == value for name, value in fields.items())
    ]
