"""Effects of the fader and the balance: gain, pan, width."""

import math
from collections.abc import Mapping

import numpy as np
from pedalboard import Gain

from mixstyle.pipeline.mixing.effects.spec import Parameter, effect, run


@effect(
    "gain",
    "Moves the fader.",
    {"gain_db": Parameter(-9.0, 9.0, "dB", "gain; the bounds are the settings' gain_range_db", apart=1.5)},
    place=10,
)
def gain(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    return run([Gain(gain_db=p["gain_db"])], audio, rate)


@effect(
    "pan",
    "Balances left against right at constant power.",
    {"pan": Parameter(-0.8, 0.8, "", "-1: left alone, 1: right alone", apart=0.15)},
    place=70,
)
def pan(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    # Constant power: what one side loses the other gains, and the middle passes at 0 dB.
    angle = (p["pan"] + 1) * math.pi / 4
    sides = math.sqrt(2) * np.array([[math.cos(angle)], [math.sin(angle)]])
    return audio * sides.astype(np.float32)


@effect(
    "width",
    "Widens or narrows the stereo image.",
    {"side_gain_db": Parameter(-12.0, 12.0, "dB", "gain of the side signal; the mid passes", apart=3.0)},
    place=80,
)
def width(audio: np.ndarray, p: Mapping[str, float], rate: int) -> np.ndarray:
    mid, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 2
    side = side * np.float32(10 ** (p["side_gain_db"] / 20))
    return np.stack([mid + side, mid - side])
