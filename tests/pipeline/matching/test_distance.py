"""The distance of two signals: what a gain makes of it is known in closed form."""

import importlib.util
import math

import pytest
import torch

from mixstyle.pipeline.matching.distance import mrstft

NOISE = 0.3 * torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("gain", [0.5, 1.0, 2.0])
def test_a_gain_is_told_by_its_difference_and_its_logarithm(gain: float) -> None:
    # ||b| - g|b|| / ||b|| = |1 - g|, and |ln b - ln g b| = |ln g|; the few bins at the floor move the latter by 1e-4
    assert mrstft(gain * NOISE, NOISE) == pytest.approx(abs(1 - gain) + abs(math.log(gain)), abs=2e-4)


def test_pan_and_width_count() -> None:
    mono = NOISE[:1].repeat(2, 1)
    panned = mono * torch.tensor([[2**0.5], [0.0]])
    assert mrstft(panned, mono) > 0.5
    assert mrstft(NOISE.flip(0), NOISE) == pytest.approx(0, abs=1e-6)  # the side with the other sign


@pytest.mark.skipif(importlib.util.find_spec("auraloss") is None, reason="the package auraloss is not installed")
@pytest.mark.parametrize("side", [1.0, -1.0])
def test_the_distance_is_that_of_another_library(side: float) -> None:
    from auraloss.freq import MultiResolutionSTFTLoss

    found, wanted = NOISE[:1], 0.7 * NOISE[:1].roll(30, -1) + 0.2 * NOISE[1:]
    # of mid and side one is empty here and the same in both: the mean of log magnitudes counts half
    theirs = MultiResolutionSTFTLoss([512, 1024, 2048], [50, 120, 240], [240, 600, 1200], w_log_mag=0.5)
    expected = float(theirs(found[None], wanted[None]))
    ours = mrstft(torch.cat([found, side * found]), torch.cat([wanted, side * wanted]))
    assert ours == pytest.approx(expected, rel=2e-3)  # magnitudes end at -80 dB here, and at -80 dB of power there


def test_other_shapes_are_refused() -> None:
    for other in (NOISE[:, 1:], NOISE[:1]):
        with pytest.raises(ValueError):
            mrstft(other, NOISE)
