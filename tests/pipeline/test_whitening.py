"""Whitening within classes: against scikit-learn's covariance, and on features whose scatter is known."""

import numpy as np
import pytest
from sklearn.covariance import ledoit_wolf

from mixstyle.pipeline.whitening import fit_whitening, shrunk_covariance


@pytest.mark.parametrize(("n", "d"), [(30, 60), (400, 12)])
def test_the_covariance_is_ledoit_and_wolfs(n: int, d: int) -> None:
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, d)) @ rng.standard_normal((d, d))
    expected, _ = ledoit_wolf(x, assume_centered=True)
    # both in float64, sums of up to 400 products of about 100: relative rounding is far below 1e-10
    np.testing.assert_allclose(shrunk_covariance(x), expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_what_varies_within_classes_no_longer_leads() -> None:
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(100), 6)
    told = rng.standard_normal((100, 4))[classes]  # what tells classes apart
    content = rng.standard_normal((600, 4)) * [8, 6, 4, 3]  # what should not count
    mixed = np.concatenate([told, content], 1) @ np.linalg.qr(rng.standard_normal((8, 8)))[0]
    whitened = fit_whitening(mixed, classes)(mixed)
    means = np.stack([whitened[classes == c].mean(0) for c in range(100)])
    within = np.cov((whitened - means[classes]).T, ddof=100)
    # 4 of 8 directions have no scatter within a class: shrinking leaves them finite, and no direction gets more than 1
    assert np.linalg.eigvalsh(within).max() == pytest.approx(1, abs=0.1)

    def found(y: np.ndarray) -> float:
        y = y / np.linalg.norm(y, axis=1, keepdims=True)
        similar = y @ y.T
        np.fill_diagonal(similar, -2)
        return float((classes[similar.argmax(1)] == classes).mean())

    assert found((mixed - mixed.mean(0)) / mixed.std(0)) < 0.1
    assert found(whitened) > 0.7  # of 5 right among 599


def test_constant_features_and_single_members_do_no_harm() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.standard_normal((9, 3)), np.full((9, 1), 5.0)], 1)
    y = fit_whitening(x, np.array([0, 0, 1, 1, 2, 2, 3, 4, 5]))(x)
    assert np.isfinite(y).all()
    assert not y[:, 3].any()
    with pytest.raises(ValueError, match="two members"):
        fit_whitening(x, np.arange(9))
    with pytest.raises(ValueError, match=r"\[N, 4\]"):
        fit_whitening(x, np.zeros(9, int))(x[:, :2])
