"""What an effect is: its parameters, its place in a chain, and the decorator that declares it.

Also what the effects share: running pedalboard's plug-ins, and giving audio its level back.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pedalboard import Pedalboard  # pyright: ignore[reportPrivateImportUsage]


@dataclass(frozen=True)
class Parameter:
    """A parameter of an effect: it is drawn between low and high, evenly or (log) evenly by ratio."""

    low: float
    high: float
    unit: str
    doc: str
    log: bool = False
    apart: float = 0.0
    """Values nearer to 0 than this are not drawn: they would hardly be heard."""

    def draw(self, rng: np.random.Generator) -> float:
        """A value within the bounds."""
        if self.log:
            value = math.exp(rng.uniform(math.log(self.low), math.log(self.high)))
            return min(max(value, self.low), self.high)
        if not self.apart:
            return float(rng.uniform(self.low, self.high))
        size = rng.uniform(min(self.apart, self.high), self.high)
        return float(size if rng.random() < 0.5 else -size)

    def normalised(self, value: float) -> float:
        """A value as a place between the bounds, -1 to 1; by ratio where it is drawn so."""
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        return 2 * ((math.log(value) if self.log else value) - low) / (high - low) - 1


Process = Callable[[np.ndarray, Mapping[str, float], int], np.ndarray]
"""(audio [2, T], parameters, sample rate in Hz) to audio [2, T]."""

PlugIns = Callable[[Mapping[str, float], float], tuple[float, list[Any]]]
"""(parameters, RMS level of the audio) to a factor on the audio and the plug-ins after it."""


@dataclass(frozen=True)
class EffectSpec:
    """An effect of the registry: what it does, its parameters, and how it is made.

    place: chains apply effects by rising places. version: counts up when equal parameters give other audio, so that
    what was made before is told apart. kind: `linear` effects of a sum are the sum of the effects. A `gain` effect
    multiplies each sample by a gain of its own that follows from the audio. plug_ins: what it consists of, for who runs
    it block by block; None where it is more than plug-ins in a row. keeps_level: whether the RMS level is given back.
    """

    doc: str
    parameters: Mapping[str, Parameter]
    process: Process
    place: int
    kind: Literal["linear", "gain"] = "linear"
    version: int = 1
    plug_ins: PlugIns | None = None
    keeps_level: bool = False


_DECLARED: dict[str, EffectSpec] = {}


def effect(
    name: str,
    doc: str,
    parameters: Mapping[str, Parameter],
    *,
    place: int,
    kind: Literal["linear", "gain"] = "linear",
    version: int = 1,
    plug_ins: PlugIns | None = None,
    keeps_level: bool = False,
) -> Callable[[Process], Process]:
    """Declares the function below it as the effect of that name; the arguments are the fields of `EffectSpec`.

    Raises ValueError for a name or a place that is taken.
    """

    def declare(process: Process) -> Process:
        taken = [other for other, spec in _DECLARED.items() if other == name or spec.place == place]
        if taken:
            raise ValueError(f"effect {name!r} at place {place}: {taken[0]!r} has that name or place")
        _DECLARED[name] = EffectSpec(doc, parameters, process, place, kind, version, plug_ins, keeps_level)
        return process

    return declare


def declared() -> dict[str, EffectSpec]:
    """The effects declared so far, by their places."""
    return dict(sorted(_DECLARED.items(), key=lambda item: item[1].place))


def attack_and_release(parameters: Mapping[str, float]) -> dict[str, float]:
    """The arguments of pedalboard's dynamics that `TIMES` declares."""
    return {name: parameters[name] for name in TIMES}


TIMES: Mapping[str, Parameter] = {
    "attack_ms": Parameter(1.0, 30.0, "ms", "attack", log=True),
    "release_ms": Parameter(50.0, 500.0, "ms", "release", log=True),
}
"""Parameters of effects that follow the level."""


SILENT_RMS = 1e-9
"""-180 dBFS: silence."""


def at_its_level(audio: np.ndarray, plug_ins: PlugIns, parameters: Mapping[str, float], rate: int) -> np.ndarray:
    """What plug-ins make of audio [2, T], brought back to its RMS level."""
    level = rms(audio)
    if level < SILENT_RMS:
        return audio.copy()
    factor, plugins = plug_ins(parameters, level)
    out = run(plugins, audio * np.float32(factor), rate)
    return out * np.float32(level / max(rms(out), 1e-12))


def run(plugins: list[Any], audio: np.ndarray, rate: int) -> np.ndarray:
    """Audio [2, T] through pedalboard's plug-ins, one after the other, from rest."""
    return Pedalboard(plugins)(np.ascontiguousarray(audio, np.float32), rate)


def below_nyquist(frequency_hz: float, rate: int) -> float:
    """pedalboard's filters give infinity at half the rate and above."""
    return min(frequency_hz, 0.45 * rate)


def rms(audio: np.ndarray) -> float:
    """Root of the mean square, in float64."""
    return math.sqrt(float(np.mean(np.square(audio, dtype=np.float64))))
