"""Content-hard: embeddings of the chain alone, and of the song alone."""

import numpy as np
from helpers.evaluation import HELD_OUT, songs_without_audio

from mixstyle.stages.evaluate.tasks.content_hard import content_hard, hard_of, leakage_of
from mixstyle.stages.evaluate.tasks.task import Cut, Part


def part_of(chains: int) -> Part:
    return content_hard(songs_without_audio(), Cut(1000, 400), chains, 3, 0, "content_hard", "through-mix")


def test_it_tells_the_chain_from_the_content() -> None:
    part = part_of(5)
    assert len(part.items) == 5 * HELD_OUT
    grid = np.array([[item.start for item in part.items[i * HELD_OUT :][:HELD_OUT]] for i in range(5)])
    assert (grid == grid[0]).all(), "a query's candidates are one stretch of its song"
    by_chain = np.repeat(np.eye(5, dtype=np.float32), HELD_OUT, axis=0)
    by_song = np.tile(np.eye(HELD_OUT, dtype=np.float32), (5, 1))
    assert hard_of(by_chain, 5, "x")["r1"] == 1
    assert hard_of(by_song, 5, "x")["r1"] == 0
    assert hard_of(by_song, 5, "x")["chance_r1"] == 0.2


def test_leakage_is_what_a_probe_knows_of_the_song() -> None:
    part = part_of(6)
    by_song = np.eye(10, dtype=np.float32)[list(part.songs)]
    by_chain = np.repeat(np.eye(6, dtype=np.float32), HELD_OUT, axis=0)
    assert leakage_of(by_song, part, 6, "x")["accuracy"] == 1
    assert leakage_of(by_chain, part, 6, "x")["accuracy"] <= leakage_of(by_chain, part, 6, "x")["chance"] + 0.1
