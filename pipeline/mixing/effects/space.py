"""Effects that add a room: reverb, delay."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from pedalboard import Delay, Reverb

from mixstyle.pipeline.mixing.effects.spec import Parameter, effect, run

DRY_GAIN = 2.0
"""pedalboard's Reverb passes the dry signal at twice its `dry_level`."""


def _reverb(p: Mapping[str, float]) -> Any:
    return Reverb(
        room_size=p["room_size"],
        damping=p["damping"],
        wet_level=p["wet_level"],
        dry_level=1 / DRY_GAIN,
        width=p["width"],
    )


def _plug_ins(p: Mapping[str, float], _level: float) -> tuple[float, list[Any]]:
    return 1.0, [_reverb(p)]


@effect(
    "reverb",
    "Adds stereo reverb.",
    {
        "room_size": Parameter(0.2, 0.9, "", "size of the room, 0 to 1"),
        "damping": Parameter(0.1, 0.9, "", "damping of the highs, 0 to 1"),
        "wet_level": Parameter(0.1, 0.4, "", "gain of the reverberation; the dry sound keeps its level"),
        "width": Parameter(0.5, 1.0, "", "stereo width of the reverberation, 0 to 1"),
    },
    place=50,
    plug_ins=_plug_ins,
)
def reverb(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return run([_reverb(p)], audio, rate)


@effect(
    "delay",
    "Adds echoes.",
    {
        "delay_ms": Parameter(60.0, 450.0, "ms", "from the sound to its first echo", log=True),
        "feedback": Parameter(0.0, 0.5, "", "gain from an echo to the next"),
        "echo_gain_db": Parameter(-15.0, -5.0, "dB", "gain of the first echo; the dry sound keeps its level"),
    },
    place=120,
)
def delay(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # pedalboard mixes dry and wet by one number; the dry sound keeps its level when the echoes are added to it.
    echoes = run([Delay(delay_seconds=p["delay_ms"] / 1000, feedback=p["feedback"], mix=1.0)], audio, rate)
    return audio + np.float32(10 ** (p["echo_gain_db"] / 20)) * echoes
