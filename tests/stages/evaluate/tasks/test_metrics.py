"""Means with intervals over songs, and none of too few songs."""

import numpy as np
import pytest

from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.stages.evaluate.tasks.metrics import estimate
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
