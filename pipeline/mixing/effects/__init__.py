"""The effects that stems are mixed with: a registry with named, bounded, documented parameters.

An effect is a function in a module of this package, under the decorator `spec.effect`: every module here is imported,
and what it declares is in `EFFECTS`. Effects are pedalboard's where it has them; each call runs chains of its own, so
that any thread or process may. What depends on level (dynamics, saturation) goes by the audio's own RMS level and gives
that level back, so that a quiet stem is treated like a loud one, and is heard as treated and not as a fader move.
"""

from collections.abc import Mapping
from importlib import import_module
from pkgutil import iter_modules

from mixstyle.pipeline.mixing.effects.spec import EffectSpec, Parameter, declared, rms

__all__ = ["EFFECTS", "PUBLISHED", "EffectSpec", "Parameter", "effect_versions", "first_versions", "rms"]


def _discovered() -> dict[str, EffectSpec]:
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return declared()


EFFECTS: Mapping[str, EffectSpec] = _discovered()
"""Every effect by its name, in the order in which a chain applies them unless its order is drawn."""

PUBLISHED = ("gain", "tilt", "compression", "bandwidth", "reverb")
"""Effects of the published recipe."""


_UNVERSIONED = (
    *("gain", "tilt", "compression", "bandwidth", "reverb", "eq"),
    *("pan", "width", "saturation", "gate", "limiter", "delay"),
)
"""The effects that there were before they had versions."""


def first_versions() -> dict[str, int]:
    """What `effect_versions` would have given before effects had versions: what stores none was made with these."""
    return dict.fromkeys(_UNVERSIONED, 1)


def effect_versions() -> dict[str, int]:
    """The version of each effect by its name, for code that stores what effects made."""
    return {name: spec.version for name, spec in EFFECTS.items()}
