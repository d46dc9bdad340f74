"""Loudness against pyloudnorm, scipy's recursion in float64, and signals whose loudness standards tell."""

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import torch
from helpers.descriptor_signals import RATE, phrases

from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS, k_weighting_filters
from mixstyle.pipeline.descriptors.loudness import (
    _BLOCK,
    _GROUP,
    _balanced,
    _state_space,
    gated_loudness,
    integrated_loudness,
    k_weighted,
    step_power,
)


def sine(level_dbfs: float, seconds: float, hz: float = 997.0) -> np.ndarray:
    return 10 ** (level_dbfs / 20) * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def measure(audio: np.ndarray, rate: int = RATE) -> float:
    return integrated_loudness(torch.from_numpy(audio.astype(np.float32)), rate).item()


def conditioning(rate: int) -> float:
    """How far the terms of one output sum up in magnitude, for inputs within -1 to 1.

    Output = sum of |C A^i| x state, and the state = sum of |A^k B| x input: both as the balanced realisation has them.
    """
    A, B, C, D = _balanced(*_state_space(rate))
    state, reach, observed = B[:, 0], np.zeros(len(B)), C[0]
    for _ in range(rate):  # one second: the high-pass at 38 Hz has long died away
        reach, state = reach + np.abs(state), A @ state
    largest = 0.0
    for _ in range(_BLOCK):
        largest, observed = max(largest, float(np.abs(observed) @ reach)), observed @ A
    return largest + abs(D)


def rounding_bound(rate: int) -> float:
    """What float32 may do to an output of inputs within -1 to 1, on whatever processor and in whatever order of sums.

    The errors of a sum of n products grow as sqrt(n) u times the sum of their magnitudes, u = 2^-24 (Higham and Mary
    2019); the longest sum has a product for each block of a group and number of the state. A rounding error lies evenly
    within +-u, so its standard deviation is u / sqrt(3), and twice the above is 3.5 of them.
    """
    terms = _GROUP * len(_balanced(*_state_space(rate))[0])
    return 2 * np.sqrt(terms) * 2**-24 * conditioning(rate)


def filtered(signal: np.ndarray, rate: int, dtype: type = np.float64) -> np.ndarray:
    """scipy's recursion, in direct form."""
    for b, a in k_weighting_filters(rate):
        signal = np.asarray(scipy.signal.lfilter(b.astype(dtype), a.astype(dtype), signal.astype(dtype)))
    return signal


def signals(rate: int) -> dict[str, np.ndarray]:
    samples = int(1.37 * rate)  # neither whole blocks nor whole groups of them
    return {
        "noise": np.random.default_rng(0).uniform(-1, 1, samples),
        "constant": np.ones(samples),
        "20 Hz": np.sin(2 * np.pi * 20 * np.arange(samples) / rate),
        "impulse": np.eye(1, samples, 100)[0],
    }


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("kind", ["noise", "constant", "20 Hz", "impulse"])
def test_filter_is_the_recursion(rate: int, kind: str) -> None:
    signal = signals(rate)[kind]
    result = k_weighted(torch.from_numpy(signal).float(), rate)
    bound = rounding_bound(rate)
    assert bound < 1e-5  # of full scale: -100 dB, 30 dB below the absolute gate
    np.testing.assert_allclose(result.numpy(), filtered(signal, rate), atol=bound, rtol=0)


@pytest.mark.parametrize("rate", [8_000, 44_100, 48_000, 192_000])
def test_the_bound_tells_the_balanced_form_from_the_direct_one(rate: int) -> None:
    """In direct form, float32 loses what the balanced form keeps: 3 times the bound at 8 kHz, 300 times at 192 kHz."""
    signal = signals(rate)["noise"]
    lost = np.abs(filtered(signal, rate, np.float32) - filtered(signal, rate)).max()
    assert lost > rounding_bound(rate)


def test_filter_takes_any_leading_shape_and_keeps_signals_apart() -> None:
    audio = torch.from_numpy(phrases(0.5, 6, seed=3)).view(3, 2, -1)
    together = k_weighted(audio, RATE)
    assert together.shape == audio.shape
    bound = rounding_bound(RATE) * float(audio.abs().max())  # products of other shapes may be summed in another order
    torch.testing.assert_close(k_weighted(audio[1, 1], RATE), together[1, 1], atol=bound, rtol=0)
    audio[0] = 1e3  # a loud neighbour
    torch.testing.assert_close(k_weighted(audio, RATE)[1:], together[1:], atol=bound, rtol=0)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_equals_pyloudnorm(seed: int, channels: int) -> None:
    audio = phrases(4 + 0.83 * seed, channels, seed)
    expected = pyloudnorm.Meter(RATE).integrated_loudness(audio.T.astype(np.float64))
    # 0.05 LU is asked for; the two differ by float32 and by a sample at blocks' edges, which int() may round down.
    assert measure(audio) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("rate", [11_020, 22_050, 48_000, 96_000])
def test_equals_pyloudnorm_at_other_rates(rate: int) -> None:
    audio = phrases(5.2, 2, seed=1, rate=rate)
    expected = pyloudnorm.Meter(rate).integrated_loudness(audio.T.astype(np.float64))
    # LU: as at 44.1 kHz; a sample of a block's 4,408 at the lowest rate is 10 log10(1 + 1 / 4408) = 0.001
    assert measure(audio, rate) == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("samples", [17_640, 17_641, 19_844, 19_845, 19_846, 22_050, 24_254, 24_255, 24_256, 441_001])
def test_blocks_are_counted_as_pyloudnorm_counts(samples: int) -> None:
    # Rising, so that one block more or less moves the result.
    audio = (np.random.default_rng(0).standard_normal((2, samples)) * np.geomspace(1e-3, 0.5, samples)).astype(
        np.float32
    )
    meter = pyloudnorm.Meter(RATE)
    expected = meter.integrated_loudness(audio.T.astype(np.float64))
    assert measure(audio) == pytest.approx(expected, abs=2e-3)  # LU, as above
    steps = step_power(torch.from_numpy(audio), RATE).shape[-1]
    assert steps - 3 == len(meter.blockwise_loudness)


def test_full_scale_997_hz_in_one_channel_reads_minus_3_01() -> None:
    left = sine(0, 10)
    silent = np.zeros_like(left)
    # BS.1770-4, annex 1: 0 dBFS, 997 Hz, left, centre or right: -3.01 LKFS. pyloudnorm's filters, which are designed
    # again for every rate, pass this frequency 0.042 dB lower than the standard's at 48 kHz.
    assert measure(np.stack([left, silent])) == pytest.approx(-3.01, abs=0.05)
    assert measure(left[None]) == pytest.approx(-3.01, abs=0.05)
    assert measure(np.stack([silent, left])) == pytest.approx(-3.01, abs=0.05)


@pytest.mark.parametrize(
    ("parts", "expected_lufs"),
    [
        ([(-23, 20)], -23.0),  # EBU Tech 3341, table 1, case 1
        ([(-33, 20)], -33.0),  # case 2
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),  # case 3: the relative gate
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),  # case 4: and the absolute one
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),  # case 5
    ],
)
def test_ebu_cases(parts: list[tuple[float, float]], expected_lufs: float) -> None:
    tone = np.concatenate([sine(level, seconds, 1000.0) for level, seconds in parts])
    assert measure(np.stack([tone, tone])) == pytest.approx(expected_lufs, abs=0.1)  # the tolerance of Tech 3341


def test_surround_channels_count_for_more() -> None:
    tone = sine(-20, 5)
    front, back = np.zeros((5, len(tone))), np.zeros((5, len(tone)))
    front[0], back[3] = tone, tone
    # LU: float32 sums of 4,410 squares, sqrt(4410) 2^-24 = 4e-6 of them, are 1.7e-5 each
    assert measure(back) - measure(front) == pytest.approx(10 * np.log10(1.41), abs=1e-4)


def test_a_gain_moves_the_loudness_by_its_decibels() -> None:
    # From -45 to -5 dBFS: blocks fall to the relative gate, which moves too; none is near the absolute, which stays.
    audio = np.random.default_rng(5).standard_normal((2, 6 * RATE)) * 10 ** (np.linspace(-45, -5, 6 * RATE) / 20)
    for gain_db in (-15.0, -3.0, 12.0):
        assert measure(audio * 10 ** (gain_db / 20)) - measure(audio) == pytest.approx(gain_db, abs=1e-3)


def test_silence_and_what_passes_no_gate_is_the_floor() -> None:
    assert measure(np.zeros((2, RATE))) == LOUDNESS_FLOOR_LUFS
    assert measure(np.stack([sine(-80, 2)] * 2)) == LOUDNESS_FLOOR_LUFS
    assert measure(np.stack([sine(-69, 2)] * 2)) > LOUDNESS_FLOOR_LUFS
    assert measure(np.ones((2, 10 * RATE)) * 1e-3) == LOUDNESS_FLOOR_LUFS  # a constant is filtered out


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_not_taken_for_silence(bad: float) -> None:
    audio = torch.zeros(3, 2, 2 * RATE)
    audio[2] = 0.1 * torch.sin(torch.arange(2 * RATE) * 0.1)
    plain = integrated_loudness(audio, RATE)
    for row in (1, 2):
        broken = audio.clone()
        broken[row, 0, -20_000] = bad  # some blocks are whole
        loudness = integrated_loudness(broken, RATE)
        assert loudness[row].isnan()
        others = [i for i in range(3) if i != row]
        assert torch.equal(loudness[others], plain[others])


def test_gating_follows_the_equations() -> None:
    power = torch.rand(50, generator=torch.Generator().manual_seed(0)).pow(6) * 0.1
    blocks = [power[j : j + 4].mean().item() for j in range(47)]
    first = [z for z in blocks if -0.691 + 10 * np.log10(z) >= -70]
    relative = -0.691 + 10 * np.log10(np.mean(first)) - 10
    second = [z for z in first if -0.691 + 10 * np.log10(z) > relative]
    assert len(second) < len(first)
    expected = -0.691 + 10 * np.log10(np.mean(second))
    # LU: a float32 mean of 47 blocks of 4 steps is rounded by 51 x 2^-24 of itself at most, 1.3e-5
    assert gated_loudness(power[None]).item() == pytest.approx(expected, abs=3e-5)


def test_low_matmul_precision_and_autocast_do_not_reach_it() -> None:
    audio = torch.from_numpy(phrases(2, 2, seed=0))
    plain = integrated_loudness(audio, RATE)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert integrated_loudness(audio, RATE).item() == plain.item()
    finally:
        torch.set_float32_matmul_precision(before)


def test_constants_made_in_inference_mode_serve_gradients() -> None:
    rate = 37_000  # asked for nowhere else, so that its constants are made here
    with torch.inference_mode():
        inside = integrated_loudness(torch.ones(1, rate).cumsum(-1) % 2, rate)
    audio = (torch.ones(1, rate).cumsum(-1) % 2).requires_grad_()
    outside = integrated_loudness(audio, rate)
    outside.backward()
    assert outside.item() == inside.item()
    assert audio.grad is not None
    assert audio.grad.isfinite().all()


@pytest.mark.parametrize(
    ("shape", "rate", "named"),
    [
        ((2, 17_639), RATE, "17640"),
        ((2, 44_100), 11_025, "11025"),
        ((6, 44_100), RATE, "channels"),
        ((2, 9), 5, "10 Hz"),
    ],
)
def test_refuses_what_it_cannot_measure(shape: tuple[int, ...], rate: int, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        integrated_loudness(torch.zeros(shape), rate)
