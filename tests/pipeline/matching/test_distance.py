"""The distance of two signals: what a gain makes of it is known in closed form."""

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


def test_other_shapes_are_refused() -> None:
    for other in (NOISE[:, 1:], NOISE[:1]):
        with pytest.raises(ValueError):
            mrstft(other, NOISE)
