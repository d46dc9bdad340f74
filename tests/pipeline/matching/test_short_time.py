"""How levels move in time: known for a gate of two levels, and blind to what equaliser, fader and width set."""

import numpy as np
import pytest
from helpers.desk_songs import RATE

from mixstyle.pipeline.matching.short_time import HOP, LAG, QUANTILES, short_time_distance, short_time_power


def noise(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """[2, T]"""
    return 0.1 * np.random.default_rng(seed).standard_normal((2, round(seconds * RATE)))


def blocks(quiet_db: float, frames: int = 40) -> np.ndarray:
    """Power [2, n, 10] that stays at one level for `frames` frames, then at one quiet_db lower for as many."""
    levels = np.repeat([1.0, 10 ** (-quiet_db / 10)], frames)
    return np.tile(levels, 2)[None, :, None] * np.ones((2, 1, 10))


def test_two_levels_are_as_far_apart_as_their_quantiles() -> None:
    steady, moving = np.ones((2, 160, 10)), blocks(20.0)
    mean_db = 10 * np.log10((1 + 0.01) / 2)
    levels = np.repeat([-mean_db - 20, -mean_db], 80)
    # two of 158 steps fall at each of two edges, and two rise at one
    steps = np.repeat([-20.0, 0.0, 20.0], [2 * LAG, 158 - 3 * LAG, LAG])
    expected = sum(np.abs(np.quantile(one, QUANTILES)).mean() for one in (levels, steps))
    assert short_time_distance(steady, moving) == pytest.approx(expected, rel=1e-9)
    assert short_time_distance(moving, steady) == pytest.approx(expected, rel=1e-9)


def test_what_the_desk_sets_counts_for_nothing() -> None:
    power = short_time_power([noise()])
    equalised = power * 10 ** (np.linspace(-12, 12, 10) / 10)
    equalised[1] *= 0.1
    assert short_time_distance(power, equalised) == pytest.approx(0, abs=1e-9)


def test_powers_are_mean_squares_and_silence_is_left_out() -> None:
    clip = noise()
    power = short_time_power([clip])
    assert power.shape == (2, 1 + (clip.shape[1] - 2 * HOP) // HOP, 10)
    mid_and_side = np.square([(clip[0] + clip[1]) / 2, (clip[0] - clip[1]) / 2]).mean(1)
    # 85 frames of 2,048 samples: white noise's power is known to 1% (one standard deviation), and 0.1% is below 22 Hz
    np.testing.assert_allclose(power.sum(-1).mean(1), mid_and_side, rtol=0.03)
    np.testing.assert_array_equal(short_time_power([0 * clip, clip, 1e-4 * clip]), power)
    assert short_time_power([clip[:, :100]]).shape[1] == 1
    assert short_time_distance(power, short_time_power([0 * clip])) == 0


def test_the_side_counts_where_both_have_one() -> None:
    power, gated = short_time_power([noise()]), short_time_power([noise()])
    gated[1, ::2] *= 0.01
    assert short_time_distance(power, gated) > 1
    assert short_time_distance(power, gated, stereo=False) == 0
    gated[1] *= 1e-4  # 40 dB down: no side to speak of
    assert short_time_distance(power, gated) == 0
