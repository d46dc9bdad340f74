"""A profile's powers are Welch's, frame by frame in float64, and its loudnesses are pyloudnorm's."""

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import torch

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.matching.profile import BANDS, WINDOW, measure_profile, song_loudness

SECONDS = 3


@pytest.fixture(scope="module")
def stems() -> np.ndarray:
    """[4, 2, T]: noises whose channels are related, each stem at a level of its own."""
    rng = np.random.default_rng(5)
    left, other = rng.standard_normal((2, 4, SECONDS * SAMPLE_RATE))
    level = np.array([0.1, 0.05, 0.2, 0.02])[:, None]
    return np.stack([level * left, level * (0.7 * left + 0.3 * other)], 1).astype(np.float32)


def bins_of_bands() -> np.ndarray:
    """Share [bins, BANDS] of each bin in thirds of an octave from 1 kHz * 2^-5.5 on, the last one open upwards."""
    width = SAMPLE_RATE / WINDOW
    edges = [*(1000 * 2 ** (-5.5 + band / 3) for band in range(BANDS)), np.inf]
    shares = np.zeros((WINDOW // 2 + 1, BANDS))
    for k in range(len(shares)):
        low, high = max(k - 0.5, 0) * width, min(k + 0.5, WINDOW / 2) * width
        for band in range(BANDS):
            shares[k, band] = max(0.0, min(high, edges[band + 1]) - max(low, edges[band])) / (high - low)
    return shares


def mean_product(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Welch's mean over Hann frames that overlap by half [bins]: of x times y, as mean squares of each bin."""
    hann = np.asarray(scipy.signal.get_window("hann", WINDOW))
    starts = range(0, len(x) - WINDOW + 1, WINDOW // 2)
    spectra = [[np.fft.rfft(hann * signal[start : start + WINDOW]) for start in starts] for signal in (x, y)]
    product = np.mean([(of_x * of_y.conj()).real for of_x, of_y in zip(*spectra, strict=True)], axis=0)
    product[1:-1] *= 2  # for the mirror images
    return product / (WINDOW * np.square(hann).sum())


def test_powers_are_welchs(stems: np.ndarray) -> None:
    found = measure_profile([torch.from_numpy(stems)])
    shares = bins_of_bands()
    for place, (left, right) in enumerate(stems.astype(np.float64)):
        mid, side = (left + right) / 2, (left - right) / 2
        ours = found.stems[place]
        for mine, x, y in ((ours.mid, mid, mid), (ours.side, side, side), (ours.product, mid, side)):
            wanted = mean_product(x, y) @ shares
            # both in float64; a product may be near 0 in a band, so against the largest band
            np.testing.assert_allclose(mine, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


def test_loudnesses_are_pyloudnorms(stems: np.ndarray) -> None:
    clips = [torch.from_numpy(part) for part in np.split(stems, 3, -1)]
    lufs, mix_lufs = song_loudness(clips)
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    wanted = [meter.integrated_loudness(stem.T.astype(np.float64)) for stem in (*stems, stems.sum(0))]
    # 0.01 LU: pyloudnorm's filter coefficients differ from the standard's by that much at most
    np.testing.assert_allclose([*lufs, mix_lufs], wanted, rtol=0, atol=0.01)
