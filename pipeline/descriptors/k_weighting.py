"""The K-weighting and the constants of ITU-R BS.1770-4, which both meters of loudness are built on."""

import math

import numpy as np

LOUDNESS_FLOOR_LUFS = -70.0
"""What a signal gets of which no block passes the absolute gate; no other result can be below it."""
BLOCK_STEPS = 4
"""A gating block is 4 steps of 100 ms: 400 ms, overlapping by 75%."""
RELATIVE_GATE_LU = -10.0
OFFSET_DB = -0.691  # BS.1770-4 eq. 2: 997 Hz at 0 dBFS in one channel reads -3.01 LKFS


def step_samples(sample_rate: int) -> int:
    """Samples of 100 ms, by which gating blocks advance. Raises ValueError where these are no whole number."""
    if sample_rate < 10 or sample_rate % 10:
        raise ValueError(f"sample_rate={sample_rate} should be a multiple of 10 Hz, so that 100 ms are whole samples")
    return sample_rate // 10


def k_weighting_filters(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The K-weighting's filters as (b, a): pyloudnorm's, with the arguments of its Meter."""
    from pyloudnorm.iirfilter import IIRfilter  # loads scipy.signal, which takes seconds

    shelf = IIRfilter(4.0, 1 / np.sqrt(2), 1500.0, sample_rate, "high_shelf")
    highpass = IIRfilter(0.0, 0.5, 38.0, sample_rate, "high_pass")
    return [(f.passband_gain * f.b, f.a) for f in (shelf, highpass)]


def k_weighting_sections(sample_rate: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The same filters from their formulas, for where pyloudnorm would take too long to load (a[0] = 1).

    R. Bristow-Johnson, "Cookbook formulae for audio equalizer biquad filter coefficients": high shelf, high-pass.
    """
    gain, w, alpha = _cookbook(1500.0, 1 / math.sqrt(2), 4.0, sample_rate)
    cos, root = math.cos(w), 2 * math.sqrt(gain) * alpha
    up, down = gain + 1, gain - 1
    shelf_b = gain * np.array([up + down * cos + root, -2 * (down + up * cos), up + down * cos - root])
    shelf_a = np.array([up - down * cos + root, 2 * (down - up * cos), up - down * cos - root])
    _, w, alpha = _cookbook(38.0, 0.5, 0.0, sample_rate)
    cos = math.cos(w)
    highpass_b = (1 + cos) / 2 * np.array([1.0, -2.0, 1.0])
    highpass_a = np.array([1 + alpha, -2 * cos, 1 - alpha])
    return [(shelf_b / shelf_a[0], shelf_a / shelf_a[0]), (highpass_b / highpass_a[0], highpass_a / highpass_a[0])]


def _cookbook(corner_hz: float, q: float, gain_db: float, sample_rate: int) -> tuple[float, float, float]:
    w = 2 * math.pi * corner_hz / sample_rate
    return 10 ** (gain_db / 40), w, math.sin(w) / (2 * q)
