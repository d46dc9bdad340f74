"""Same chain, different content: what is asked of whom, and retrieval of embeddings with known answers."""

import numpy as np
import pytest
from helpers.evaluation import songs_without_audio

from mixstyle.stages.evaluate.tasks.metrics import retrieval_of_halves
from mixstyle.stages.evaluate.tasks.same_chain import same_chain
from mixstyle.stages.evaluate.tasks.task import Part

CHAINS = 40


@pytest.fixture(scope="module")
def part() -> Part:
    return same_chain(songs_without_audio(), 2, CHAINS, 0)


def test_query_and_right_answer_share_the_chain_and_never_the_song(part: Part) -> None:
    assert len(part) == len(part.items) == 2 * CHAINS
    queries, pool = part.items[:CHAINS], part.items[CHAINS:]
    assert [chain for _, chain in queries] == [chain for _, chain in pool]
    asking, answering = np.array(part.songs[:CHAINS]), np.array(part.songs[CHAINS:])
    assert (asking != answering).all()
    # the pool counts chains, and other entries may be of the query's own song: with 4 songs some must be
    assert (answering[None] == asking[:, None]).any(1).all()


def test_a_perfect_embedding_finds_every_answer(part: Part) -> None:
    by_chain = np.tile(np.eye(CHAINS, dtype=np.float32), (2, 1))
    shares = {f"r{k}{end}": 1 for k in (1, 5, 10) for end in ("", "_low", "_high")}
    found = retrieval_of_halves(by_chain, part.songs, "x")
    assert found == pytest.approx(shares | {"mean_rank": 1, "median_rank": 1, "mrr": 1, "chance_r1": 1 / CHAINS})


def test_noise_finds_as_much_as_chance(part: Part) -> None:
    noise = np.random.default_rng(0).standard_normal((2 * CHAINS, 16)).astype(np.float32)
    found = retrieval_of_halves(noise, part.songs, "x")
    # 40 queries: standard errors are 0.07 (a share of 1 in 4) and 1.8 ranks; 3.5 of them
    assert found["r10"] == pytest.approx(10 / CHAINS, abs=0.25)
    assert found["mean_rank"] == pytest.approx((CHAINS + 1) / 2, abs=6.4)


def test_rows_with_units_are_compared_without_them(part: Part) -> None:
    by_chain = np.tile(np.eye(CHAINS, dtype=np.float32), (2, 1))
    # one dimension in millionths weighs what others do, and a common offset nothing
    scaled = by_chain * np.where(np.arange(CHAINS) == 0, 1e-6, 1.0).astype(np.float32) + 5
    assert retrieval_of_halves(scaled, part.songs, "raw descriptors")["r1"] == 1


def test_two_songs_are_enough() -> None:
    assert sorted(set(same_chain(songs_without_audio(2), 1, 10, 0).songs)) == [0, 1]
