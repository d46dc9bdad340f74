"""Content-hard: embeddings of the chain alone, and of the song alone."""

import numpy as np
from helpers.evaluation import HELD_OUT, songs_without_audio

from mixstyle.stages.evaluate.tasks.content_hard import content_hard, hard_of, leakage_of


def test_it_tells_the_chain_from_the_content() -> None:
    part = content_hard(songs_without_audio(), 5, 3, 0)
    assert len(part.items) == 5 * HELD_OUT
    by_chain = np.repeat(np.eye(5, dtype=np.float32), HELD_OUT, axis=0)
    by_song = np.tile(np.eye(HELD_OUT, dtype=np.float32), (5, 1))
    assert hard_of(by_chain, 5, "x")["r1"] == 1
    assert hard_of(by_song, 5, "x")["r1"] == 0
    assert hard_of(by_song, 5, "x")["chance_r1"] == 0.2


def test_leakage_is_what_a_probe_knows_of_the_song() -> None:
    part = content_hard(songs_without_audio(), 6, 3, 0)
    by_song = np.eye(10, dtype=np.float32)[list(part.songs)]
    by_chain = np.repeat(np.eye(6, dtype=np.float32), HELD_OUT, axis=0)
    assert leakage_of(by_song, part, 6, "x")["accuracy"] == 1
    assert leakage_of(by_chain, part, 6, "x")["accuracy"] <= leakage_of(by_chain, part, 6, "x")["chance"] + 0.1
