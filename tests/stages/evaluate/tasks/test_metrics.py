"""Means with intervals over songs, and none of too few songs."""

import numpy as np
import pytest

from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.stages.evaluate.tasks.metrics import estimate, song_embeddings
from mixstyle.stages.presentation.estimates import FEW_SONGS, percent


@pytest.mark.parametrize("songs", [2, FEW_SONGS - 1])
def test_too_few_songs_have_no_interval(songs: int) -> None:
    found = estimate("r1", np.arange(3.0 * songs) % 2, np.arange(3 * songs) % songs)
    # of 3n values that begin with 0 and take turns, 3n // 2 are 1
    assert found["r1_low"] == found["r1"] == found["r1_high"] == 3 * songs // 2 / (3 * songs)
    assert "[" not in percent(found, "r1")


def test_intervals_are_over_songs() -> None:
    values, songs = np.repeat([0.0, 1.0] * (FEW_SONGS // 2), 5), np.repeat(np.arange(FEW_SONGS), 5)
    found, expected = estimate("r1", values, songs), bootstrap_groups(values, songs)
    assert (found["r1"], found["r1_low"], found["r1_high"]) == (expected.value, expected.low, expected.high)
    # songs are all or nothing: 8 coins, a standard error of 0.18, where 40 would have 0.08
    assert found["r1_high"] - found["r1_low"] > 0.5


def test_a_songs_embedding_is_the_mean_of_its_clips() -> None:
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((8, 4))
    songs = np.array([5, 3, 7, 5, 3, 5, 9, 7])
    found = song_embeddings(clips, songs)
    assert found.shape == (4, 4)
    for row, number in zip(found, (3, 5, 7, 9), strict=True):
        of_song = clips[songs == number]
        mean = (of_song / np.linalg.norm(of_song, axis=1, keepdims=True)).mean(0)
        # float64: means and norms of a few numbers, 2^-53 = 1e-16 each
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), rtol=1e-12)
