"""Effects that a stem runs through before its equaliser: those of the registry, block by block.

What depends on level goes by the stem's RMS level and gives that level back (`mixstyle.pipeline.mixing.effects`). A
song that streams by does not tell its level, so it is measured before, on clips of it: `insert_levels`. Of a stem that
is one clip, from its first sample to its last, the output is that of the registry.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.effects import EFFECTS, rms
from mixstyle.pipeline.mixing.effects.spec import SILENT_RMS
from mixstyle.pipeline.mixing.mix_chain import Effect

INSERTS = ("compression", "saturation", "limiter", "reverb")
"""The effects that may be set, in the order in which they are."""
PRIMING = 8192
"""Samples of silence before the first: pedalboard's plug-ins forget their state when a block is longer than any before,
and it hands them no more than so many at once."""
_GENTLE_ENDS = {"threshold_db": "high", "ratio": "low", "drive_db": "low", "wet_level": "low"}
"""Of the parameters that tell how much an effect does: at which bound it does least."""

Samples = NDArray[np.floating]


@dataclass(frozen=True)
class InsertLevel:
    """RMS of a stem before an effect, and after it before its level is given back."""

    before: float
    made: float


def checked_insert(effect: Effect) -> Effect:
    """Raises ValueError for an effect that may not be set, or parameters that the registry does not draw."""
    if effect.name not in INSERTS:
        raise ValueError(f"an effect of a stem is one of {', '.join(INSERTS)}, not {effect.name!r}")
    parameters = EFFECTS[effect.name].parameters
    if set(effect.parameters) != set(parameters):
        raise ValueError(f"{effect.name} has the parameters {', '.join(parameters)}")
    for name, value in effect.parameters.items():
        low, high = parameters[name].low, parameters[name].high
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{effect.name}: {name}={value!r} should be a number")
        if not low <= value <= high:
            raise ValueError(f"{effect.name}: {name}={value!r} should be between {low:g} and {high:g}")
    return effect


def told_insert(effect: Effect) -> str:
    """An effect as an engineer says it: `compressor 3.0:1 from 6 dB below its level, 10 / 120 ms`."""
    p = effect.parameters
    if effect.name == "saturation":
        return f"saturation {p['drive_db']:.0f} dB"
    if effect.name == "reverb":
        return (
            f"reverb {100 * p['wet_level']:.0f}% (room {100 * p['room_size']:.0f}%, damping {100 * p['damping']:.0f}%)"
        )
    side = "below" if p["threshold_db"] < 0 else "above"
    where = f"from {abs(p['threshold_db']):.0f} dB {side} its level"
    if effect.name == "limiter":
        return f"limiter {where}, release {p['release_ms']:.0f} ms"
    return f"compressor {p['ratio']:.1f}:1 {where}, {p['attack_ms']:.0f} / {p['release_ms']:.0f} ms"


def weaker(effect: Effect, amount: float) -> Effect:
    """The same effect with less of it: between the registry's gentlest setting, and at 1 what it is."""

    def value(name: str, set_to: float) -> float:
        end = _GENTLE_ENDS.get(name)
        if end is None:
            return set_to
        gentle = getattr(EFFECTS[effect.name].parameters[name], end)
        return gentle + amount * (set_to - gentle)

    return Effect(effect.name, {name: value(name, set_to) for name, set_to in effect.parameters.items()})


class InsertRunner:
    """Effects in a row with their state. Takes blocks [2, n] in order. levels: one for each, or ValueError."""

    def __init__(
        self, inserts: Sequence[Effect], levels: Sequence[InsertLevel], sample_rate: int = SAMPLE_RATE
    ) -> None:
        self._steps = [_Step(one, level, sample_rate) for one, level in zip(inserts, levels, strict=True)]

    def run(self, block: Samples) -> Samples:
        """The block after all effects, float32; as it is where there are none."""
        for step in self._steps:
            block = step.run(block)
        return block


def run_inserts(
    inserts: Sequence[Effect], clips: Sequence[Samples], sample_rate: int = SAMPLE_RATE
) -> tuple[tuple[InsertLevel, ...], list[Samples]]:
    """The levels of a stem of which clips [2, T] are known, and the clips after the effects, each from rest."""
    levels, now = [], list(clips)
    for one in inserts:
        before = _joined_rms(now)
        open_level = InsertLevel(before, before)
        made = [InsertRunner([one], [open_level], sample_rate).run(clip) for clip in now]
        found = InsertLevel(before, _joined_rms(made)) if EFFECTS[one.name].keeps_level else open_level
        factor = np.float32(found.before / max(found.made, 1e-12)) if before >= SILENT_RMS else np.float32(1)
        levels.append(found)
        now = [clip * factor for clip in made]
    return tuple(levels), now


def insert_levels(
    inserts: Sequence[Effect], clips: Sequence[Samples], sample_rate: int = SAMPLE_RATE
) -> tuple[InsertLevel, ...]:
    """The levels alone."""
    return run_inserts(inserts, clips, sample_rate)[0] if inserts else ()


def insert_of_json(data: Mapping[str, Any]) -> Effect:
    """Reads `{"name": ..., parameter: value}`. Raises ValueError for what may not be set."""
    values = {str(key): float(value) for key, value in data.items() if key != "name"}
    return checked_insert(Effect(str(data.get("name")), values))


class _Step:
    """One effect."""

    def __init__(self, effect: Effect, level: InsertLevel, sample_rate: int) -> None:
        from pedalboard import Pedalboard  # pyright: ignore[reportPrivateImportUsage]

        plug_ins = EFFECTS[effect.name].plug_ins
        if plug_ins is None:
            raise ValueError(f"{effect.name} does not run block by block")
        self._rate = sample_rate
        self._silent = level.before < SILENT_RMS
        factor, plugins = plug_ins(effect.parameters, max(level.before, SILENT_RMS))
        self._factor = np.float32(factor)
        self._made_up = np.float32(level.before / max(level.made, 1e-12))
        self._board = Pedalboard(plugins)
        self._board(np.zeros((2, PRIMING), np.float32), sample_rate, reset=False)

    def run(self, block: Samples) -> Samples:
        if self._silent or not block.shape[1]:
            return block
        audio = np.ascontiguousarray(np.asarray(block, np.float32) * self._factor)
        return self._board(audio, self._rate, reset=False) * self._made_up


def _joined_rms(clips: Sequence[Samples]) -> float:
    """Of clips in one."""
    samples = sum(clip.size for clip in clips)
    return math.sqrt(sum(rms(clip) ** 2 * clip.size for clip in clips) / max(samples, 1))
