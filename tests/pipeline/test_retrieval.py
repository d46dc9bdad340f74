"""Ranks, intervals and principal components against brute force and closed forms."""

from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from mixstyle.pipeline.retrieval import (
    bootstrap,
    bootstrap_groups,
    chance,
    expected_average_precision,
    group_retrieval,
    hits,
    principal_components,
    ranks,
)


def test_ranks_are_places_in_the_sorted_list() -> None:
    rng = np.random.default_rng(0)
    pool = rng.standard_normal((1500, 16)).astype(np.float32)
    queries = pool + 1.5 * rng.standard_normal(pool.shape).astype(np.float32)
    target = rng.permutation(len(pool))
    found = ranks(queries[target], pool, target)
    for i in rng.integers(0, len(target), 40):
        cosine = [float(np.dot(queries[target[i]], p) / np.linalg.norm(p)) for p in pool]
        assert found[i] == list(np.argsort(cosine)[::-1]).index(target[i]) + 1


def test_length_does_not_matter() -> None:
    rng = np.random.default_rng(1)
    pool, queries = rng.standard_normal((2, 30, 8))
    target = np.arange(30)
    scaled = pool * rng.uniform(0.01, 100, (30, 1))
    np.testing.assert_array_equal(ranks(queries, pool, target), ranks(7 * queries, scaled, target))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_embedding_that_is_the_same_for_all_finds_nothing(value: float) -> None:
    same = np.full((20, 4), value)
    assert (ranks(same, same, np.arange(20)) == 20).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(3, 4\).*\(3, 5\)"):
        ranks(np.zeros((3, 4)), np.zeros((3, 5)), np.arange(3))
    with pytest.raises(ValueError, match="target"):
        ranks(np.zeros((3, 4)), np.zeros((2, 4)), np.arange(3))


def test_chance_is_what_random_embeddings_reach() -> None:
    rng = np.random.default_rng(2)
    pool, queries = rng.standard_normal((50, 32)), rng.standard_normal((4000, 32))
    found = ranks(queries, pool, rng.integers(0, 50, 4000))
    for k in (1, 5):
        # 4 standard errors of a share of 4000
        error = 4 * np.sqrt(chance(k, 50) / 4000)
        assert hits(found, k).mean() == pytest.approx(chance(k, 50), abs=error)
    assert chance(5, 3) == 1.0


def test_the_interval_is_as_wide_as_the_binomial_says() -> None:
    values = (np.arange(400) < 120).astype(float)
    found = bootstrap(values, seed=3, draws=4000)
    half = 1.96 * np.sqrt(0.3 * 0.7 / 400)
    assert found.value == pytest.approx(0.3)
    # percentiles of 4000 draws are good to about 3% of the width
    assert found.low == pytest.approx(0.3 - half, abs=0.1 * half)
    assert found.high == pytest.approx(0.3 + half, abs=0.1 * half)
    assert bootstrap(values, seed=3, draws=4000) == found
    assert bootstrap(np.ones(5)) == bootstrap(np.ones(7))
    assert bootstrap(np.zeros(1)).value == 0, "one value is enough"
    with pytest.raises(ValueError):
        bootstrap(np.zeros(0))


def test_principal_components_are_the_covariances_eigenvectors() -> None:
    rng = np.random.default_rng(4)
    points = rng.standard_normal((200, 6)) * [5, 3, 1, 1, 0.5, 0.1] @ np.linalg.qr(rng.standard_normal((6, 6)))[0]
    found, share = principal_components(points)
    values = np.linalg.eigvalsh(np.cov(points.T))[::-1]
    # float64: 2^-53 of the sums of 200 squares and of a decomposition in 6 dimensions, some 1e-15 each
    np.testing.assert_allclose(share, values[:2] / values.sum(), rtol=1e-12)
    np.testing.assert_allclose(found.var(axis=0, ddof=1), values[:2], rtol=1e-12)
    np.testing.assert_allclose(principal_components(-points)[0], -found)


def test_points_on_a_line_or_of_one_kind_have_a_map_too() -> None:
    points, share = principal_components(np.outer(np.arange(5.0), [3.0, 4.0]))
    np.testing.assert_allclose(np.abs(points[:, 0]), [10, 5, 0, 5, 10], atol=1e-12)  # float64 of values of 10: 1.8e-15
    assert share == pytest.approx([1.0, 0.0])
    points, share = principal_components(np.ones((4, 1)))
    assert points.shape == (4, 2)
    assert share == [0.0, 0.0]


def test_intervals_resample_whole_songs() -> None:
    values = np.repeat([0.0, 1.0], 50)
    alone, grouped = (bootstrap_groups(values, g) for g in (np.arange(100), np.repeat([0, 1], 50)))
    assert alone.value == grouped.value == 0.5
    assert alone.high - alone.low < 0.25
    assert (grouped.low, grouped.high) == (0, 1), "two songs tell next to nothing"


def test_groups_are_found_as_brute_force_and_scikit_learn_say() -> None:
    rng = np.random.default_rng(4)
    groups = rng.integers(0, 9, 60)
    groups[:2] = 100, 101  # alone in their groups: no queries, but wrong answers
    x = rng.standard_normal((101 + 1, 12))[groups] + rng.standard_normal((60, 12))
    found = group_retrieval(x, groups)
    assert list(found.query) == [i for i in range(60) if (groups == groups[i]).sum() > 1]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    for column, query in enumerate(found.query):
        rest = [i for i in range(60) if i != query]
        cosine, right = unit[rest] @ unit[query], groups[rest] == groups[query]
        ordered = right[np.argsort(-cosine)]
        assert found.top1[column] == ordered[0]
        first = min(5, right.sum())
        assert found.precision5[column] == pytest.approx(ordered[:first].mean())
        # float64: means of at most 59 shares below 1, in another order: 59 x 2^-53 is 7e-15
        assert found.average_precision[column] == pytest.approx(average_precision_score(right, cosine), abs=1e-12)
        assert found.top1_chance[column] == found.precision5_chance[column] == pytest.approx(right.mean())


def test_groups_in_a_constant_embedding_are_not_found() -> None:
    found = group_retrieval(np.ones((10, 3)), np.repeat([0, 1], 5))
    assert not found.top1.any()
    # 4 right answers behind 5 wrong ones: precisions 1/6, 2/7, 3/8, 4/9
    assert found.average_precision == pytest.approx(np.mean([1 / 6, 2 / 7, 3 / 8, 4 / 9]))
    assert len(group_retrieval(np.ones((3, 2)), np.array([0, 1, 1])).top1) == 2, "one group of two is enough"
    with pytest.raises(ValueError):
        group_retrieval(np.ones((3, 2)), np.arange(3))


@pytest.mark.parametrize(("relevant", "entries"), [(1, 1), (1, 5), (2, 5), (3, 6), (6, 6)])
def test_average_precision_by_chance_is_the_mean_over_all_orders(relevant: int, entries: int) -> None:
    values = []
    for order in permutations([1] * relevant + [0] * (entries - relevant)):
        places = np.flatnonzero(order) + 1
        values.append((np.arange(1, relevant + 1) / places).mean())
    # float64: a mean of up to 720 values below 1: 720 x 2^-53 is 8e-14
    assert expected_average_precision(relevant, entries) == pytest.approx(np.mean(values), abs=1e-12)
