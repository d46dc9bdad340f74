"""Same chain, different content: what is asked of whom, and retrieval of embeddings with known answers."""

import numpy as np
import pytest
from helpers.evaluation import songs_without_audio
from matplotlib.figure import Figure

from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import SMALL_POOL, retrieval_of_halves
from mixstyle.stages.evaluate.tasks.same_chain import draw_curves, same_chain
from mixstyle.stages.evaluate.tasks.task import Cut, Part

CHAINS = 40
CUT = Cut(cached=1000, frames=400)


def part_of(songs: int, effects: int, chains: int) -> Part:
    clips = [song.clips for song in songs_without_audio(songs)]
    return same_chain(clips, CUT, effects, chains, 0, "same_chain_2", "through-mix")


@pytest.fixture(scope="module")
def part() -> Part:
    return part_of(4, 2, CHAINS)


def test_query_and_right_answer_share_the_chain_and_never_the_song(part: Part) -> None:
    assert len(part) == len(part.items) == 2 * CHAINS
    queries, pool = part.items[:CHAINS], part.items[CHAINS:]
    assert [item.steps for item in queries] == [item.steps for item in pool]
    assert all(len(item.steps) == 1 and item.frames == 400 and 0 <= item.start <= 600 for item in part.items)
    assert len({item.start for item in part.items}) > CHAINS, "stretches lie at drawn places"
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
    assert sorted(set(part_of(2, 1, 10).songs)) == [0, 1]


def test_no_effects_are_the_loudnesses_alone() -> None:
    for item in part_of(4, 0, 10).items:
        (chain,) = item.steps
        assert isinstance(chain, MixChain)
        assert not any(chain.stems)
        assert len(chain.stem_lufs) == 4
        assert chain.mix_lufs == -14


def test_small_pools_are_pools_of_their_own() -> None:
    """250 chains fill two pools of 100; an embedding that confuses chain i with i + 100 is right in each of them."""
    chains = 2 * SMALL_POOL + 50
    part = part_of(4, 1, chains)
    confused = np.tile(np.eye(SMALL_POOL, dtype=np.float32)[np.arange(chains) % SMALL_POOL], (2, 1))
    found = retrieval_of_halves(confused, part.songs, "x")
    assert found["r1"] == 0, "ties count against the query"
    assert found["r1_small_pool"] == 1
    assert "r1_small_pool" not in retrieval_of_halves(confused[: 2 * SMALL_POOL], part.songs[: 2 * SMALL_POOL], "x")


def test_a_song_asks_with_the_mean_of_its_stretches() -> None:
    """Each stretch alone points to a wrong chain more than to its own; their mean does not."""
    right, wrong = np.eye(6, dtype=np.float32)[:3], np.eye(6, dtype=np.float32)[3:]
    # stretch j of chain i: its own direction, and a stronger one that differs from stretch to stretch
    by_chain = np.stack([[right[i] + 1.2 * wrong[j] for j in range(3)] for i in range(3)]).reshape(9, 6)
    # the pool's stretches are in another order, so that a query's stretch i stands beside another's
    other = np.stack([[right[i] + 1.2 * wrong[(i + j + 1) % 3] for j in range(3)] for i in range(3)]).reshape(9, 6)
    songs = tuple(np.repeat(np.arange(6), 3).tolist())
    found = retrieval_of_halves(np.concatenate([by_chain, other]), songs, "x", clips=3)
    assert found["r1"] == 1
    assert found["chance_r1"] == pytest.approx(1 / 3)
    assert retrieval_of_halves(np.concatenate([by_chain[::3], other[::3]]), tuple(range(6)), "x")["r1"] < 1


def test_curves_are_in_percent_with_their_intervals() -> None:
    found = {
        str(n): {row: {"r1": r1, "r1_low": r1 / 2, "r1_high": r1 + 0.1, "chance_r1": 0.025} for row in ("a", "b")}
        for n, r1 in ((0, 0.25), (2, 0.5), (8, 0.75))
    }
    axes = Figure().add_subplot()
    draw_curves(axes, found, ("a", "b"))
    *curves, chance = [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    assert curves == [[25, 50, 75]] * 2
    assert chance == [2.5] * 3
    corners = axes.collections[0].get_paths()[0].vertices
    assert {(float(x), float(y)) for x, y in np.asarray(corners)} >= {(0, 12.5), (2, 25), (8, 37.5), (8, 85)}
    assert axes.get_ylim() == (0, 100)
