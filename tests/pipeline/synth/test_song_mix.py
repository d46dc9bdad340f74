"""How rendered songs are mixed: pan, width, the limiter, and what is drawn."""

import json

import numpy as np
import pytest

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.synth.song_mix import PEAK, _limit, draw_mix, pan_gains, set_width


def test_pan_and_width_do_what_they_say() -> None:
    left, right = pan_gains(0.5).ravel()
    assert right > left
    assert left**2 + right**2 == pytest.approx(2.0)
    assert pan_gains(0.0).ravel() == pytest.approx([1.0, 1.0])
    audio = np.random.default_rng(0).standard_normal((2, 1000)).astype(np.float32)
    mono = set_width(audio, 0.0)
    assert np.array_equal(mono[0], mono[1])
    # float32: a sum, a difference and their sum are rounded by 2^-23 = 1.2e-7 each at most below 4: 3.6e-7
    assert set_width(audio, 1.0) == pytest.approx(audio, abs=1e-6)


def test_the_limiter_keeps_the_ceiling_and_one_gain_for_all_stems() -> None:
    rng = np.random.default_rng(0)
    stems = (rng.standard_normal((4, 2, SAMPLE_RATE)) * 0.5).astype(np.float32)
    limited = _limit(stems, SAMPLE_RATE)
    assert np.abs(limited).max() <= PEAK
    assert np.abs(limited.sum(axis=0)).max() <= PEAK
    gain = limited / stems
    # a product and a quotient of float32 round a gain below 0.5 by 2^-24 of itself each, up or down: 4 x 3e-8
    assert np.ptp(gain, axis=(0, 1)).max() < 2e-7
    quiet = stems * np.float32(0.01)
    assert np.array_equal(_limit(quiet, SAMPLE_RATE), quiet)


def test_songs_are_mixed_in_very_different_ways() -> None:
    drawn = [draw_mix(np.random.default_rng(seed)) for seed in range(80)]
    for name in ("wetness", "width", "squeeze"):
        values = [getattr(mix, name) for mix in drawn]
        assert min(values) < 0.1
        assert max(values) > 0.9
    vocals_db = [mix.stems["vocals"].level_db for mix in drawn]
    assert max(vocals_db) - min(vocals_db) > 5.0
    assert json.loads(json.dumps(drawn[0].record()))["stems"]["drums"]["pan"] == round(drawn[0].stems["drums"].pan, 3)
