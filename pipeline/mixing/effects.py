"""The effects that stems are mixed with: a registry with named, bounded, documented parameters.

Effects are pedalboard's where it has them; each call runs chains of its own, so that any thread or process may. What
depends on level (dynamics, saturation) goes by the audio's own RMS level and gives that level back, so that a quiet
stem is treated like a loud one, and is heard as treated and not as a fader move.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pedalboard import (
    Compressor,
    Delay,
    Distortion,
    Gain,
    HighpassFilter,
    HighShelfFilter,
    Limiter,
    LowpassFilter,
    LowShelfFilter,
    NoiseGate,
    PeakFilter,
    Pedalboard,  # pyright: ignore[reportPrivateImportUsage]
    Reverb,
)

PIVOT_HZ = 1000.0
"""Where a spectral tilt turns."""
SHELF_LOW_HZ, SHELF_HIGH_HZ = 250.0, 4000.0
"""Corners of the two shelves that make a tilt: two octaves below and above the pivot."""
DRY_GAIN = 2.0
"""pedalboard's Reverb passes the dry signal at twice its `dry_level`."""
SATURATION_RMS_DB = -18.0
"""Level, in dBFS, at which audio meets tanh at 0 dB of drive."""
LIMITER_DB = -6.0
"""Threshold at which pedalboard's Limiter is run; the audio is scaled to it. Its first stage acts from -10 dBFS on."""


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


@dataclass(frozen=True)
class EffectSpec:
    """An effect of the registry: what it does, its parameters, and how it is made.

    kind: `linear` effects of a sum are the sum of the effects. A `gain` effect multiplies each sample by a gain of
    its own that follows from the audio.
    """

    doc: str
    parameters: Mapping[str, Parameter]
    process: Callable[[np.ndarray, Mapping[str, float], int], np.ndarray]
    """(audio [2, T], parameters, sample rate) to audio [2, T]."""
    kind: Literal["linear", "gain"] = "linear"


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
    def compress(audio: np.ndarray, level: float) -> np.ndarray:
        threshold_db = 20 * math.log10(level) + p["threshold_db"]
        times = {"attack_ms": p["attack_ms"], "release_ms": p["release_ms"]}
        return _run([Compressor(threshold_db=threshold_db, ratio=p["ratio"], **times)], audio, rate)

    return _at_its_level(audio, compress)


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


def _eq(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    bands = [
        PeakFilter(
            cutoff_frequency_hz=_below_nyquist(p[f"{band}_hz"], rate), gain_db=p[f"{band}_gain_db"], q=p[f"{band}_q"]
        )
        for band in ("low", "high")
    ]
    return _run(bands, audio, rate)


def _pan(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Constant power: what one side loses the other gains, and the middle passes at 0 dB.
    angle = (p["pan"] + 1) * math.pi / 4
    sides = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]])
    return audio * sides.astype(np.float32)


def _width(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    mid, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 2
    side = side * np.float32(10 ** (p["side_gain_db"] / 20))
    return np.stack([mid + side, mid - side])


def _saturate(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    def saturate(audio: np.ndarray, level: float) -> np.ndarray:
        driven = audio * np.float32(10 ** (SATURATION_RMS_DB / 20) / level)
        return _run([Distortion(drive_db=p["drive_db"])], driven, rate)

    return _at_its_level(audio, saturate)


def _gate(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    def gate(audio: np.ndarray, level: float) -> np.ndarray:
        threshold_db = 20 * math.log10(level) + p["threshold_db"]
        times = {"attack_ms": p["attack_ms"], "release_ms": p["release_ms"]}
        return _run([NoiseGate(threshold_db=threshold_db, ratio=p["ratio"], **times)], audio, rate)

    return _at_its_level(audio, gate)


def _limit(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    def limit(audio: np.ndarray, level: float) -> np.ndarray:
        scaled = audio * np.float32(10 ** ((LIMITER_DB - p["threshold_db"]) / 20) / level)
        return _run([Limiter(threshold_db=LIMITER_DB, release_ms=p["release_ms"])], scaled, rate)

    return _at_its_level(audio, limit)


def _delay(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # pedalboard mixes dry and wet by one number; the dry sound keeps its level when the echoes are added to it.
    echoes = _run([Delay(delay_seconds=p["delay_ms"] / 1000, feedback=p["feedback"], mix=1.0)], audio, rate)
    return audio + np.float32(10 ** (p["echo_gain_db"] / 20)) * echoes


_TIMES = {
    "attack_ms": Parameter(1.0, 30.0, "ms", "attack", log=True),
    "release_ms": Parameter(50.0, 500.0, "ms", "release", log=True),
}

EFFECTS: Mapping[str, EffectSpec] = {
    "gain": EffectSpec(
        "Moves the fader.",
        {"gain_db": Parameter(-9.0, 9.0, "dB", "gain; the bounds are the settings' gain_range_db", apart=1.5)},
        _gain,
    ),
    "tilt": EffectSpec(
        f"Tilts the spectrum about {PIVOT_HZ:.0f} Hz with a low and a high shelf.",
        {"tilt_db": Parameter(-12.0, 12.0, "dB", "highs over lows, far above and below the pivot", apart=3.0)},
        _tilt,
    ),
    "compression": EffectSpec(
        "Compresses and makes up for the level lost.",
        {
            "threshold_db": Parameter(-18.0, -3.0, "dB", "threshold over the RMS level"),
            "ratio": Parameter(2.0, 10.0, ":1", "input over output above the threshold", log=True),
            **_TIMES,
        },
        _compress,
        "gain",
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
        "Adds stereo reverb.",
        {
            "room_size": Parameter(0.2, 0.9, "", "size of the room, 0 to 1"),
            "damping": Parameter(0.1, 0.9, "", "damping of the highs, 0 to 1"),
            "wet_level": Parameter(0.1, 0.4, "", "gain of the reverberation; the dry sound keeps its level"),
            "width": Parameter(0.5, 1.0, "", "stereo width of the reverberation, 0 to 1"),
        },
        _reverb,
    ),
    "eq": EffectSpec(
        "Two peaking bands of a parametric equaliser.",
        {
            "low_hz": Parameter(80.0, 800.0, "Hz", "centre of the lower band", log=True),
            "low_gain_db": Parameter(-12.0, 12.0, "dB", "gain at that centre", apart=3.0),
            "low_q": Parameter(0.5, 3.0, "", "quality: centre over bandwidth", log=True),
            "high_hz": Parameter(800.0, 8000.0, "Hz", "centre of the upper band", log=True),
            "high_gain_db": Parameter(-12.0, 12.0, "dB", "gain at that centre", apart=3.0),
            "high_q": Parameter(0.5, 3.0, "", "quality: centre over bandwidth", log=True),
        },
        _eq,
    ),
    "pan": EffectSpec(
        "Balances left against right at constant power.",
        {"pan": Parameter(-0.8, 0.8, "", "-1: left alone, 1: right alone", apart=0.15)},
        _pan,
    ),
    "width": EffectSpec(
        "Widens or narrows the stereo image.",
        {"side_gain_db": Parameter(-12.0, 12.0, "dB", "gain of the side signal; the mid passes", apart=3.0)},
        _width,
    ),
    "saturation": EffectSpec(
        "Saturates with tanh and makes up for the level.",
        {
            "drive_db": Parameter(
                3.0, 24.0, "dB", f"gain before the tanh, of audio brought to {SATURATION_RMS_DB:g} dBFS RMS"
            )
        },
        _saturate,
        "gain",
    ),
    "gate": EffectSpec(
        "Gates (expands downward) what is quiet.",
        {
            "threshold_db": Parameter(-24.0, -6.0, "dB", "threshold over the RMS level"),
            "ratio": Parameter(2.0, 10.0, ":1", "output over input below the threshold, in dB", log=True),
            **_TIMES,
        },
        _gate,
        "gain",
    ),
    "limiter": EffectSpec(
        "Limits peaks and makes up for the level lost.",
        {
            "threshold_db": Parameter(-3.0, 9.0, "dB", "threshold over the RMS level"),
            "release_ms": Parameter(20.0, 300.0, "ms", "release", log=True),
        },
        _limit,
        "gain",
    ),
    "delay": EffectSpec(
        "Adds echoes.",
        {
            "delay_ms": Parameter(60.0, 450.0, "ms", "from the sound to its first echo", log=True),
            "feedback": Parameter(0.0, 0.5, "", "gain from an echo to the next"),
            "echo_gain_db": Parameter(-15.0, -5.0, "dB", "gain of the first echo; the dry sound keeps its level"),
        },
        _delay,
    ),
}
"""Every effect, in the order in which a chain applies them unless its order is drawn."""

PUBLISHED = ("gain", "tilt", "compression", "bandwidth", "reverb")
"""Effects of the published recipe."""


def _at_its_level(audio: np.ndarray, process: Callable[[np.ndarray, float], np.ndarray]) -> np.ndarray:
    """What `process` makes of audio and its RMS level, brought back to that level."""
    level = rms(audio)
    if level < 1e-9:  # -180 dBFS: silence
        return audio.copy()
    out = process(audio, level)
    return out * np.float32(level / max(rms(out), 1e-12))


def _run(plugins: list[Any], audio: np.ndarray, rate: int) -> np.ndarray:
    return Pedalboard(plugins)(np.ascontiguousarray(audio, np.float32), rate)


def _below_nyquist(frequency_hz: float, rate: int) -> float:
    """pedalboard's filters give infinity at half the rate and above."""
    return min(frequency_hz, 0.45 * rate)


def rms(audio: np.ndarray) -> float:
    """Root of the mean square, in float64."""
    return math.sqrt(float(np.mean(np.square(audio, dtype=np.float64))))
