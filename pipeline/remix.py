"""Mixes a clip's stems anew: the hard negatives of training are the anchor's own stems under another mix.

What may be done stands in `EFFECTS`: gain imbalance, spectral tilt, compression and bandwidth limits on each stem, and
stereo reverb, as published; each with named parameters, their bounds and units. `sample_remix` draws a `Remix`, a
record of everything that is done and in which order; `apply_remix` does it with pedalboard, on chains of its own, so
that any thread or process may. The same record gives the same samples.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pedalboard import (
    Compressor,
    Gain,
    HighpassFilter,
    HighShelfFilter,
    LowpassFilter,
    LowShelfFilter,
    Pedalboard,  # pyright: ignore[reportPrivateImportUsage]
    Reverb,
)

from mixstyle.pipeline.stems import SAMPLE_RATE, STEMS

PIVOT_HZ = 1000.0
"""Where a spectral tilt turns."""
SHELF_LOW_HZ, SHELF_HIGH_HZ = 250.0, 4000.0
"""Corners of the two shelves that make a tilt: two octaves below and above the pivot."""
DRY_GAIN = 2.0
"""pedalboard's Reverb passes the dry signal at twice its `dry_level`."""


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


@dataclass(frozen=True)
class EffectSpec:
    """An effect of the registry: what it does, its parameters, and how it is made."""

    doc: str
    parameters: Mapping[str, Parameter]
    process: Callable[[np.ndarray, Mapping[str, float], int], np.ndarray]
    """(audio [2, T], parameters, sample rate) to audio [2, T]."""


@dataclass(frozen=True)
class Effect:
    """One effect as it is applied; parameters by the registry's names, in their units."""

    name: str
    parameters: Mapping[str, float]


@dataclass(frozen=True)
class Remix:
    """Everything that is done to a clip: a chain for each stem, in the order of `STEMS`; nothing on the sum."""

    stems: tuple[tuple[Effect, ...], ...]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types, chains by the stem's name."""
        return {
            stem: [{"name": effect.name, **effect.parameters} for effect in chain]
            for stem, chain in zip(STEMS, self.stems, strict=True)
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Remix":
        """Reads what `to_json` made. Raises ValueError for stems or effects that do not exist."""
        if set(data) != set(STEMS):
            raise ValueError(f"a remix should name {', '.join(STEMS)}, not {', '.join(data)}")
        return cls(tuple(tuple(_effect(entry) for entry in data[stem]) for stem in STEMS))


@dataclass(frozen=True)
class RemixSettings:
    """How remixes are drawn. aug_prob: probability of each effect on each stem. gain_range_db: gains lie within it.

    Raises ValueError for a probability outside 0 to 1 and for a range below 0 dB.
    """

    aug_prob: float = 0.5
    gain_range_db: float = 9.0

    def __post_init__(self) -> None:
        if not 0 <= self.aug_prob <= 1:
            raise ValueError(f"aug_prob={self.aug_prob} should lie between 0 and 1")
        if not self.gain_range_db >= 0:
            raise ValueError(f"gain_range_db={self.gain_range_db} should not be below 0")


def _gain(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return _run([Gain(gain_db=p["gain_db"])], audio, rate)


def _tilt(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Half of the tilt is a low shelf and half a high one of the opposite sign: the pivot keeps its level.
    half_db = p["tilt_db"] / 2
    shelves = [
        LowShelfFilter(cutoff_frequency_hz=SHELF_LOW_HZ, gain_db=-half_db),
        HighShelfFilter(cutoff_frequency_hz=_below_nyquist(SHELF_HIGH_HZ, rate), gain_db=half_db),
    ]
    return _run(shelves, audio, rate)


def _compress(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # The threshold is relative to the stem's own level, else a quiet stem would never be compressed; the make-up gain
    # gives the level back, so that compression is heard as such and not as a fader move.
    level = _rms(audio)
    if level == 0:
        return audio.copy()
    compressor = Compressor(
        threshold_db=20 * math.log10(level) + p["threshold_db"],
        ratio=p["ratio"],
        attack_ms=p["attack_ms"],
        release_ms=p["release_ms"],
    )
    out = _run([compressor], audio, rate)
    return out * np.float32(level / max(_rms(out), 1e-12))


def _bandwidth(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Two first-order sections each: 12 dB per octave.
    low = [HighpassFilter(cutoff_frequency_hz=p["highpass_hz"]) for _ in range(2)]
    high = [LowpassFilter(cutoff_frequency_hz=_below_nyquist(p["lowpass_hz"], rate)) for _ in range(2)]
    return _run([*low, *high], audio, rate)


def _reverb(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    reverb = Reverb(
        room_size=p["room_size"],
        damping=p["damping"],
        wet_level=p["wet_level"],
        dry_level=1 / DRY_GAIN,
        width=p["width"],
    )
    return _run([reverb], audio, rate)


EFFECTS: Mapping[str, EffectSpec] = {
    "gain": EffectSpec(
        "Moves the stem's fader.",
        {"gain_db": Parameter(-9.0, 9.0, "dB", "gain; the bounds are the settings' gain_range_db", apart=1.5)},
        _gain,
    ),
    "tilt": EffectSpec(
        f"Tilts the spectrum about {PIVOT_HZ:.0f} Hz with a low and a high shelf.",
        {"tilt_db": Parameter(-12.0, 12.0, "dB", "highs over lows, far above and below the pivot", apart=3.0)},
        _tilt,
    ),
    "compression": EffectSpec(
        "Compresses the stem and makes up for the level lost.",
        {
            "threshold_db": Parameter(-18.0, -3.0, "dB", "threshold over the stem's RMS level"),
            "ratio": Parameter(2.0, 10.0, ":1", "input over output above the threshold", log=True),
            "attack_ms": Parameter(1.0, 30.0, "ms", "attack", log=True),
            "release_ms": Parameter(50.0, 500.0, "ms", "release", log=True),
        },
        _compress,
    ),
    "bandwidth": EffectSpec(
        "Limits the bandwidth at both ends, 12 dB per octave.",
        {
            "highpass_hz": Parameter(30.0, 300.0, "Hz", "corner of the high-pass", log=True),
            "lowpass_hz": Parameter(3000.0, 14000.0, "Hz", "corner of the low-pass", log=True),
        },
        _bandwidth,
    ),
    "reverb": EffectSpec(
        "Adds stereo reverb to the stem.",
        {
            "room_size": Parameter(0.2, 0.9, "", "size of the room, 0 to 1"),
            "damping": Parameter(0.1, 0.9, "", "damping of the highs, 0 to 1"),
            "wet_level": Parameter(0.1, 0.4, "", "gain of the reverberation; the dry sound keeps its level"),
            "width": Parameter(0.5, 1.0, "", "stereo width of the reverberation, 0 to 1"),
        },
        _reverb,
    ),
}
"""Every effect, in the order in which a stem's chain applies them."""


def sample_remix(rng: np.random.Generator, settings: RemixSettings) -> Remix:
    """Draws a remix: each effect on each stem with probability `aug_prob`, and one at least on one stem.

    With a gain range below 1.5 dB gains are drawn up to it; at 0 dB gain is no effect and is never drawn.
    """
    names = [name for name in EFFECTS if name != "gain" or settings.gain_range_db > 0]
    drawn = rng.random((len(STEMS), len(names))) < settings.aug_prob
    if not drawn.any():
        drawn[rng.integers(len(STEMS)), rng.integers(len(names))] = True
    return Remix(
        tuple(tuple(_draw(name, rng, settings) for name, on in zip(names, row, strict=True) if on) for row in drawn)
    )


def apply_remix(stems: np.ndarray, remix: Remix, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Stems float32 [4, 2, T] mixed anew, as long as they were; a stem without effects is the same to the bit.

    Tails of reverbs end with the clip. Raises ValueError for another shape, for samples that are not finite (one
    would make nearly all of pedalboard's output so), and for effects or parameters that do not exist.
    """
    if stems.ndim != 3 or stems.shape[:2] != (len(STEMS), 2):
        raise ValueError(f"stems to remix should be [4, 2, T], not {list(stems.shape)}")
    if not np.isfinite(stems).all():
        raise ValueError("stems to remix hold NaN or infinite samples")
    out = np.array(stems, np.float32)
    for i, chain in enumerate(remix.stems):
        for effect in chain:
            spec = EFFECTS.get(effect.name)
            if spec is None or set(effect.parameters) != set(spec.parameters):
                raise ValueError(f"no effect {effect.name!r} with parameters {', '.join(effect.parameters)}")
            out[i] = spec.process(out[i], effect.parameters, sample_rate)
    return out


def _draw(name: str, rng: np.random.Generator, settings: RemixSettings) -> Effect:
    if name == "gain":
        bound = settings.gain_range_db
        apart = EFFECTS["gain"].parameters["gain_db"].apart
        return Effect("gain", {"gain_db": Parameter(-bound, bound, "dB", "", apart=apart).draw(rng)})
    return Effect(name, {key: parameter.draw(rng) for key, parameter in EFFECTS[name].parameters.items()})


def _effect(entry: Mapping[str, Any]) -> Effect:
    values = {key: float(value) for key, value in entry.items() if key != "name"}
    if entry.get("name") not in EFFECTS or set(values) != set(EFFECTS[entry["name"]].parameters):
        raise ValueError(f"no effect {entry.get('name')!r} with parameters {', '.join(values)}")
    return Effect(entry["name"], values)


def _run(plugins: list[Any], audio: np.ndarray, rate: int) -> np.ndarray:
    return Pedalboard(plugins)(np.ascontiguousarray(audio, np.float32), rate)


def _below_nyquist(frequency_hz: float, rate: int) -> float:
    """pedalboard's filters give infinity at half the rate and above."""
    return min(frequency_hz, 0.45 * rate)


def _rms(audio: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(audio, dtype=np.float64))))
