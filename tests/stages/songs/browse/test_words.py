"""How near two songs are, in words."""

import math

import pytest

from mixstyle.stages.songs.browse.words import closeness


@pytest.mark.parametrize(
    ("closer_than", "side", "share"),
    [(0.07, "farther", "93%"), (0.5, "closer", "50%"), (0.93, "closer", "93%"), (0, "farther", ""), (1, "closer", "")],
)
def test_closeness_is_told_by_the_side_where_most_pairs_are(closer_than: float, side: str, share: str) -> None:
    told = closeness(closer_than)
    assert told.split()[0] == side
    assert [word for word in told.split() if "%" in word] == ([share] if share else [])


def test_closeness_that_is_not_known_is_not_told() -> None:
    assert closeness(math.nan) == ""
