"""Finds the objectives: every module of this package that has an OBJECTIVE."""

import importlib
import pkgutil
from functools import cache

import mixstyle.pipeline.encoder.objectives as package
from mixstyle.pipeline.encoder.objectives.base import GridObjective, Objective


@cache
def all_objectives() -> dict[str, Objective | GridObjective]:
    """All objectives by name, in alphabetical order. Raises ValueError where two have one name."""
    found: dict[str, Objective | GridObjective] = {}
    for module in pkgutil.iter_modules(package.__path__):
        objective = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "OBJECTIVE", None)
        if objective is None:
            continue
        if objective.name in found:
            raise ValueError(f"two objectives are named {objective.name!r}")
        found[objective.name] = objective
    return dict(sorted(found.items()))


def objectives() -> dict[str, Objective]:
    """Those whose clips are mixed in training, from cached stems."""
    return {name: found for name, found in all_objectives().items() if isinstance(found, Objective)}


def grid_objectives() -> dict[str, GridObjective]:
    """Those that read a bank of `mixstyle remix`."""
    return {name: found for name, found in all_objectives().items() if isinstance(found, GridObjective)}


def chance_loss(name: str, batch: int, clips: int = 0) -> float:
    """The loss in nats of an encoder that knows nothing, under an objective with batches of that many items.

    clips: of each group, where the items are a bank's groups. Raises KeyError for a name that no objective has.

    >>> round(chance_loss("same-song", 24), 3)
    3.871
    """
    objective = all_objectives()[name]
    return objective.chance_loss(batch, clips) if isinstance(objective, GridObjective) else objective.chance_loss(batch)
