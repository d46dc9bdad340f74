"""Center and scale of descriptors: those of a normal distribution, and the two floors."""

import numpy as np
import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.robust_statistics import robust_statistics


def test_a_normal_distribution_has_its_mean_and_standard_deviation() -> None:
    values = np.random.default_rng(0).normal(5.0, 3.0, (100_000, 1))
    center, scale = robust_statistics(values)
    # standard errors at 100,000 values: 1.25 x 3 / 316 = 0.012 of the median, 0.013 of the scale; four of them
    assert center[0] == pytest.approx(5.0, abs=0.05)
    assert scale[0] == pytest.approx(3.0, abs=0.05)


def test_statistics_have_floors() -> None:
    rows = 10_000
    constant = np.full(rows, -70.0)
    rare = np.where(np.arange(rows) % 100 == 0, 30.0, 0.0)  # moves in 1 of 100: standard deviation 30 x 0.0995
    center, scale = robust_statistics(np.stack([constant, rare], axis=1))
    # float32 of the result: 6e-8 of it
    np.testing.assert_allclose(scale, [1e-3, 0.1 * 30 * np.sqrt(0.01 * 0.99)], rtol=1e-6)
    np.testing.assert_array_equal(center, [-70.0, 0.0])


def test_clips_without_descriptors_do_not_count() -> None:
    values = np.array([[1.0, 2.0], [np.nan, 100.0], [3.0, 4.0], [2.0, 3.0]])
    center, _ = robust_statistics(values)
    np.testing.assert_array_equal(center, [2.0, 3.0])
    with pytest.raises(MixstyleError) as caught:
        robust_statistics(np.full((3, 2), np.nan))
    assert caught.value.code == "no-music"
