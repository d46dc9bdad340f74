"""Within-group whitening against drawn data whose covariance is known."""

import numpy as np
import pytest

from mixstyle.pipeline.descriptors.whitening import within_group_whitening


def drawn(groups: int, clips: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    mixing = rng.standard_normal((5, 5))
    place = np.repeat(np.arange(groups), clips)
    centers = 30 * rng.standard_normal((groups, 5))
    return centers[place] + rng.standard_normal((len(place), 5)) @ mixing, place, mixing


def test_the_covariance_within_groups_is_the_identity() -> None:
    values, groups, _ = drawn(4000, 4)
    mean, matrix = within_group_whitening(values, groups)
    white = ((values - mean) @ matrix).reshape(4000, 4, 5)
    residuals = (white - white.mean(1, keepdims=True)).reshape(-1, 5)
    covariance = residuals.T @ residuals / (len(residuals) - 4000)
    # 12,000 degrees of freedom: a standard error of about 1 / sqrt(12000) = 0.9%, and the shrinkage, here below 1%
    assert covariance == pytest.approx(np.eye(5), abs=0.05)
    assert mean == pytest.approx(values.mean(0))


def test_the_matrix_is_the_inverse_root_of_the_true_covariance() -> None:
    values, groups, mixing = drawn(4000, 4)
    _, matrix = within_group_whitening(values, groups)
    assert matrix @ (mixing.T @ mixing) @ matrix == pytest.approx(np.eye(5), abs=0.05)  # as above


def test_groups_of_one_say_nothing_and_bad_values_are_refused() -> None:
    values, groups, _ = drawn(50, 3)
    alone = np.vstack([values, 1e3 * np.ones((1, 5))])
    same = within_group_whitening(alone, np.append(groups, 99))[1]
    assert same == pytest.approx(within_group_whitening(values, groups)[1])
    assert np.isfinite(within_group_whitening(values[:3], np.array([0, 1, 1]))[1]).all(), "one group of two is enough"
    with pytest.raises(ValueError):
        within_group_whitening(values[:2], np.arange(2))
    with pytest.raises(ValueError, match="NaN"):
        within_group_whitening(np.full((2, 2), np.nan), np.zeros(2, int))
