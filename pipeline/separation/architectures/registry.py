"""Finds the architectures: every module of this package that has an ARCHITECTURE."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from typing import Any

import mixstyle.pipeline.separation.architectures as package
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.architectures.base import Architecture


@cache
def architectures() -> dict[str, Architecture]:
    """All architectures by name, in alphabetical order. Raises ValueError where two have one name."""
    found: dict[str, Architecture] = {}
    for module in pkgutil.iter_modules(package.__path__):
        architecture = getattr(importlib.import_module(f"{package.__name__}.{module.name}"), "ARCHITECTURE", None)
        if architecture is None:
            continue
        if architecture.name in found:
            raise ValueError(f"two architectures are named {architecture.name!r}")
        found[architecture.name] = architecture
    return dict(sorted(found.items()))


def architecture_of(content: Mapping[str, Any]) -> Architecture:
    """The architecture of a separator's YAML: the one that it names, else the one that recognises its `model` section.

    Raises MixstyleError (bad-setting) where no architecture has that name, or none recognises the section.
    """
    known, name = architectures(), content.get("architecture")
    if name is not None:
        if name not in known:
            raise MixstyleError(f"architecture={name}: there are {', '.join(known)}", code="bad-setting")
        return known[name]
    found = next((each for each in known.values() if each.recognises(content["model"])), None)
    if found is None:
        raise MixstyleError(
            f"the settings of `model` fit no known architecture ({', '.join(known)}); if it is one of these, add the "
            "line `architecture: NAME`",
            code="bad-setting",
        )
    return found
