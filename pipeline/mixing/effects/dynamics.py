"""Effects that follow the level: compression, saturation, gate, limiter. All keep the audio's RMS level."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pedalboard import Compressor, Distortion, Limiter, NoiseGate

from mixstyle.pipeline.mixing.effects.spec import TIMES, Parameter, at_its_level, attack_and_release, effect

SATURATION_RMS_DB = -18.0
"""Level, in dBFS, at which audio meets tanh at 0 dB of drive."""
LIMITER_DB = -6.0
"""Threshold at which pedalboard's Limiter is run; the audio is scaled to it. Its first stage acts from -10 dBFS on."""


def _compressor(p: Mapping[str, float], level: float) -> tuple[float, list[Any]]:
    threshold_db = 20 * math.log10(level) + p["threshold_db"]
    return 1.0, [Compressor(threshold_db=threshold_db, ratio=p["ratio"], **attack_and_release(p))]


def _saturator(p: Mapping[str, float], level: float) -> tuple[float, list[Any]]:
    return 10 ** (SATURATION_RMS_DB / 20) / level, [Distortion(drive_db=p["drive_db"])]


def _expander(p: Mapping[str, float], level: float) -> tuple[float, list[Any]]:
    threshold_db = 20 * math.log10(level) + p["threshold_db"]
    return 1.0, [NoiseGate(threshold_db=threshold_db, ratio=p["ratio"], **attack_and_release(p))]


def _limiter(p: Mapping[str, float], level: float) -> tuple[float, list[Any]]:
    factor = 10 ** ((LIMITER_DB - p["threshold_db"]) / 20) / level
    return factor, [Limiter(threshold_db=LIMITER_DB, release_ms=p["release_ms"])]


@effect(
    "compression",
    "Compresses and makes up for the level lost.",
    {
        "threshold_db": Parameter(-18.0, -3.0, "dB", "threshold over the RMS level"),
        "ratio": Parameter(2.0, 10.0, ":1", "input over output above the threshold", log=True),
        **TIMES,
    },
    place=30,
    kind="gain",
    plug_ins=_compressor,
    keeps_level=True,
)
def compression(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return at_its_level(audio, _compressor, p, rate)


@effect(
    "saturation",
    "Saturates with tanh and makes up for the level.",
    {
        "drive_db": Parameter(
            3.0, 24.0, "dB", f"gain before the tanh, of audio brought to {SATURATION_RMS_DB:g} dBFS RMS"
        )
    },
    place=90,
    kind="gain",
    plug_ins=_saturator,
    keeps_level=True,
)
def saturation(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return at_its_level(audio, _saturator, p, rate)


@effect(
    "gate",
    "Gates (expands downward) what is quiet.",
    {
        "threshold_db": Parameter(-24.0, -6.0, "dB", "threshold over the RMS level"),
        "ratio": Parameter(2.0, 10.0, ":1", "output over input below the threshold, in dB", log=True),
        **TIMES,
    },
    place=100,
    kind="gain",
    plug_ins=_expander,
    keeps_level=True,
)
def gate(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return at_its_level(audio, _expander, p, rate)


@effect(
    "limiter",
    "Limits peaks and makes up for the level lost.",
    {
        "threshold_db": Parameter(-3.0, 9.0, "dB", "threshold over the RMS level"),
        "release_ms": Parameter(20.0, 300.0, "ms", "release", log=True),
    },
    place=110,
    kind="gain",
    plug_ins=_limiter,
    keeps_level=True,
)
def limiter(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return at_its_level(audio, _limiter, p, rate)
