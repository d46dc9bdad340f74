"""Effects that shape the spectrum: tilt, bandwidth, equaliser."""

from collections.abc import Mapping

import numpy as np
from pedalboard import HighpassFilter, HighShelfFilter, LowpassFilter, LowShelfFilter, PeakFilter

from mixstyle.pipeline.mixing.effects.spec import Parameter, below_nyquist, effect, run

PIVOT_HZ = 1000.0
"""Where a spectral tilt turns."""
SHELF_LOW_HZ, SHELF_HIGH_HZ = 250.0, 4000.0
"""Corners of the two shelves that make a tilt: two octaves below and above the pivot."""


@effect(
    "tilt",
    f"Tilts the spectrum about {PIVOT_HZ:.0f} Hz with a low and a high shelf.",
    {"tilt_db": Parameter(-12.0, 12.0, "dB", "highs over lows, far above and below the pivot", apart=3.0)},
    place=20,
)
def tilt(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Half of the tilt is a low shelf and half a high one of the opposite sign: the pivot keeps its level.
    half_db = p["tilt_db"] / 2
    shelves = [
        LowShelfFilter(cutoff_frequency_hz=SHELF_LOW_HZ, gain_db=-half_db),
        HighShelfFilter(cutoff_frequency_hz=below_nyquist(SHELF_HIGH_HZ, rate), gain_db=half_db),
    ]
    return run(shelves, audio, rate)


@effect(
    "bandwidth",
    "Limits the bandwidth at both ends, 12 dB per octave.",
    {
        "highpass_hz": Parameter(30.0, 300.0, "Hz", "corner of the high-pass", log=True),
        "lowpass_hz": Parameter(3000.0, 14000.0, "Hz", "corner of the low-pass", log=True),
    },
    place=40,
)
def bandwidth(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Two first-order sections each: 12 dB per octave.
    low = [HighpassFilter(cutoff_frequency_hz=p["highpass_hz"]) for _ in range(2)]
    high = [LowpassFilter(cutoff_frequency_hz=below_nyquist(p["lowpass_hz"], rate)) for _ in range(2)]
    return run([*low, *high], audio, rate)


@effect(
    "eq",
    "Two peaking bands of a parametric equaliser.",
    {
        "low_hz": Parameter(80.0, 800.0, "Hz", "centre of the lower band", log=True),
        "low_gain_db": Parameter(-12.0, 12.0, "dB", "gain at that centre", apart=3.0),
        "low_q": Parameter(0.5, 3.0, "", "quality: centre over bandwidth", log=True),
        "high_hz": Parameter(800.0, 8000.0, "Hz", "centre of the upper band", log=True),
        "high_gain_db": Parameter(-12.0, 12.0, "dB", "gain at that centre", apart=3.0),
        "high_q": Parameter(0.5, 3.0, "", "quality: centre over bandwidth", log=True),
    },
    place=60,
)
def eq(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    bands = [
        PeakFilter(
            cutoff_frequency_hz=below_nyquist(p[f"{band}_hz"], rate), gain_db=p[f"{band}_gain_db"], q=p[f"{band}_q"]
        )
        for band in ("low", "high")
    ]
    return run(bands, audio, rate)
