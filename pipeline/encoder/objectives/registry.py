"""Finds the objectives: every module of this package that has an OBJECTIVE."""

import importlib
import pkgutil
from functools import cache

import mixstyle.pipeline.encoder.objectives as package
from mixstyle.pipeline.encoder.objectives.base import Objective


@cache
def objectives() -> dict[str, Objective]:
    """All objectives by name, in alphabetical order. Raises ValueError where two have one name."""
    found: dict[str, Objective] = {}
    for module in pkgutil.iter_modules(package.__path__):
        objective = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "OBJECTIVE", None)
        if objective is None:
            continue
        if objective.name in found:
            raise ValueError(f"two objectives are named {objective.name!r}")
        found[objective.name] = objective
    return dict(sorted(found.items()))


def chance_loss(name: str, batch: int) -> float:
    """The loss in nats of an encoder that knows nothing, under an objective with batches of that many items.

    Raises KeyError for a name that no objective has.

    >>> round(chance_loss("same-song", 24), 3)
    3.871
    """
    return objectives()[name].chance_loss(batch)
