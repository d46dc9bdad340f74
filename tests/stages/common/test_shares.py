"""Shares of a stage's shards that there are not are refused by the option that is wrong."""

import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.shares import check_share


@pytest.mark.parametrize(
    ("index", "shares", "option"),
    [
        (0, 0, "--num-shards 0"),
        (0, -2, "--num-shards -2"),
        (1, 1, "--shard-index 1"),
        (-1, 3, "--shard-index -1"),
        (3, 3, "--shard-index 3"),
    ],
)
def test_a_share_that_there_is_not_is_told_by_its_option(index: int, shares: int, option: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        check_share(index, shares)
    assert caught.value.code == "bad-option"
    assert caught.value.message.startswith(option)


def test_shares_that_there_are() -> None:
    for shares in (1, 3):
        for index in range(shares):
            check_share(index, shares)
