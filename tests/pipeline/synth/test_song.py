"""Whole rendered songs: alive, balanced, unlike one another, and the same bytes again."""

import numpy as np
import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.synth.song import render_song
from mixstyle.pipeline.synth.song_mix import PEAK, active_rms

SHORTEST_S = 8.0


@pytest.fixture(scope="module")
def rendered() -> list[np.ndarray]:
    return [render_song(seed, SHORTEST_S).stems for seed in range(3)]


def test_stems_are_alive_and_balanced(rendered: list[np.ndarray]) -> None:
    for seed, stems in enumerate(rendered):
        assert stems.shape == (4, 2, round(SHORTEST_S * SAMPLE_RATE))
        assert stems.dtype == np.float32
        assert np.isfinite(stems).all()
        mixture = stems.sum(axis=0)
        assert max(np.abs(stems).max(), np.abs(mixture).max()) <= PEAK
        whole = active_rms(mixture, SAMPLE_RATE)
        for stem, audio in zip(STEMS, stems, strict=True):
            level_db = 20 * np.log10(active_rms(audio, SAMPLE_RATE) / whole)
            assert -18 < level_db < 1, f"seed {seed}: {stem} lies at {level_db:.1f} dB"


def test_songs_differ_and_repeat_to_the_byte(rendered: list[np.ndarray]) -> None:
    assert render_song(2, SHORTEST_S).stems.tobytes() == rendered[2].tobytes()
    for first in range(len(rendered)):
        for second in range(first):
            a, b = rendered[first].sum(axis=(0, 1)), rendered[second].sum(axis=(0, 1))
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.2


@pytest.mark.parametrize(("seed", "duration_s", "word"), [(1, 7.9, "duration_s"), (-1, 10.0, "seed")])
def test_impossible_songs_are_refused(seed: int, duration_s: float, word: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        render_song(seed, duration_s)
    assert caught.value.code == "bad-option"
    assert word in str(caught.value)
