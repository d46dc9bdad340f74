"""Robustness: what changes leave of the audio, and cosines of embeddings with known answers."""

import numpy as np
import pytest
from helpers.small_cache import stems_of

from mixstyle.stages.evaluate.tasks.robustness import CHANGES, CONDITIONS, OTHER_CHAIN, robustness_of


def test_a_change_is_compared_with_another_chain() -> None:
    songs = 5
    one = np.repeat(np.eye(2, 8, dtype=np.float32)[:1], songs * (len(CONDITIONS) - 1), axis=0)
    other = np.repeat(np.eye(2, 8, dtype=np.float32)[1:], songs, axis=0)
    found = robustness_of(np.concatenate([one, other]), "x")
    assert found["polarity"]["cosine"] == found["polarity"]["nearer_than_chain"] == 1
    assert found[OTHER_CHAIN]["cosine"] == 0


@pytest.mark.parametrize("name", CHANGES)
def test_changes_leave_what_they_should(name: str) -> None:
    mix = stems_of(2, 3.0).sum(0)
    out = CHANGES[name](mix)
    assert out.shape == mix.shape
    assert out.dtype == np.float32
    gain = {"+6 dB": 10 ** (6 / 20), "-6 dB": 10 ** (-6 / 20), "polarity": -1.0}.get(name, 1.0)
    middle = slice(4000, -4000)
    error = np.mean((out - gain * mix)[:, middle] ** 2) / np.mean((gain * mix)[:, middle] ** 2)
    error_db = 10 * np.log10(max(error, 1e-20))
    # noise is what codecs are worst at: they leave its highs out; what is aligned wrongly would be above 0 dB
    assert error_db < {"MP3 at 128 kbit/s": -3, "MP3 at 320 kbit/s": -8, "48 kHz and back": -15}.get(name, -100)
