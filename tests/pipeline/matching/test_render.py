"""Blocks are the whole, nothing set is the mix to the last bit, and what the stems do not sum to stays."""

import numpy as np
from helpers.desk_songs import KNOWN, RATE, stems_of
from scipy import signal

from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.matching.render import SongRunner, StripRunner

STEMS = stems_of(seconds=0.5).numpy()
REST = 0.01 * np.random.default_rng(3).standard_normal(STEMS.shape[1:]).astype(np.float32)
MIX = STEMS.sum(0) + REST


def run(strips: tuple[Strip, ...], frames: int) -> tuple[np.ndarray, np.ndarray]:
    runner = SongRunner(strips)
    parts = [runner.run(MIX[:, a : a + frames], STEMS[..., a : a + frames]) for a in range(0, MIX.shape[1], frames)]
    parts += list(runner.tail())
    return np.concatenate([p[0] for p in parts], 1), np.concatenate([p[1] for p in parts], -1)


def test_nothing_set_is_the_mix_itself() -> None:
    mix, stems = run((Strip(),) * 4, 1000)
    assert np.array_equal(mix, MIX)
    assert np.array_equal(stems, STEMS)


def test_blocks_are_the_whole_and_the_rest_stays() -> None:
    whole, small = run(KNOWN, MIX.shape[1]), run(KNOWN, 777)
    # one recursion in float64, wherever blocks end: a last bit of float32 below 1 is 2^-24 = 6e-8
    np.testing.assert_allclose(whole[0], small[0], atol=1e-7)
    mix, stems = whole
    rest = mix - stems.sum(0)
    np.testing.assert_allclose(rest[:, : MIX.shape[1]], REST, atol=3e-7)  # float32 of sums below 1
    assert mix.shape[1] > MIX.shape[1]
    assert np.abs(rest[:, MIX.shape[1] :]).max() < 3e-7


def test_a_strip_is_what_scipy_makes_of_it() -> None:
    strip = KNOWN[2]
    audio = np.concatenate([STEMS[2], np.zeros((2, 4410))], 1)
    expected = audio
    for one in strip.filters:
        section = one.section(RATE)
        expected = np.asarray(signal.lfilter(section[:3], section[3:], expected, axis=-1))
    expected = expected * np.array(strip.pan_gains)[:, None] * 10 ** (strip.gain_db / 20)
    # float64: 2^-53 of samples below 1, which poles 0.062 from the unit circle raise 1 / 0.062^2 = 260 times at most
    np.testing.assert_allclose(StripRunner(strip).run(audio), expected, atol=1e-12)


def test_a_strip_on_the_mix_is_on_all_that_adds_up_to_it() -> None:
    bus = Strip((Filter("low shelf", 150.0, 3.0), Filter("bell", 2000.0, -4.0, 1.4)), 12.0, (0.0, 2.0, -3.0))
    runner, plain = SongRunner(KNOWN, mix=bus), SongRunner(KNOWN)
    parts = [runner.run(MIX[:, a : a + 5000], STEMS[..., a : a + 5000]) for a in range(0, MIX.shape[1], 5000)]
    mix, stems = (np.concatenate([part[i] for part in parts], -1) for i in range(2))
    expected, changed = plain.run(MIX, STEMS)
    # float32 is rounded by 2^-25 = 3e-8 below 1 and 2^-24 below 2: before the bus, which makes at most 2.04 times as
    # much of it (the magnitudes of its impulse response), and behind it: 1.2e-7
    np.testing.assert_allclose(mix, StripRunner(bus).run(expected), atol=2e-7)
    np.testing.assert_allclose(stems[1], StripRunner(bus).run(changed[1]), atol=2e-7)
    # MIX is 4 sums rounded before the bus, 2.4e-7; behind it a mix, 4 stems and 3 sums of them are, 3e-7
    np.testing.assert_allclose(mix - stems.sum(0), StripRunner(bus).run(REST), atol=6e-7)
    assert sum(mix.shape[1] for mix, _ in runner.tail()) > 0
    alone, untouched = SongRunner((Strip(),) * 4, mix=bus).run(MIX, STEMS)
    np.testing.assert_allclose(alone, StripRunner(bus).run(MIX), atol=1e-7)  # float32 behind the bus alone
    np.testing.assert_allclose(untouched[0], StripRunner(bus).run(STEMS[0]), atol=1e-7)


def test_the_tail_ends_where_it_is_silent() -> None:
    strips = (Strip(), Strip((Filter("bell", 40.0, 6.0, 6.0),)), Strip(), Strip())
    mix, _ = run(strips, 10_000)
    ringing = mix.shape[1] - MIX.shape[1]
    assert 0 < ringing <= 5 * RATE
    section = strips[1].filters[0].section(RATE)
    audio = np.concatenate([STEMS[1], np.zeros((2, 6 * RATE))], 1)
    lost = np.asarray(signal.lfilter(section[:3], section[3:], audio, axis=-1))[:, mix.shape[1] :]
    assert np.abs(lost).max() < 2e-5  # -94 dBFS


def test_width_moves_the_side_alone() -> None:
    wide = StripRunner(Strip(side_db=(0.0, 3.0, 3.0))).run(STEMS[3])
    np.testing.assert_allclose(wide.sum(0), STEMS[3].sum(0), atol=1e-7)  # a float32 sum below 1
    f, before = signal.welch(STEMS[3][0] - STEMS[3][1], RATE, nperseg=4096)
    _, after = signal.welch(wide[0] - wide[1], RATE, nperseg=4096)
    gain_db = 10 * np.log10(after / before)
    # dB: at 1.5 kHz the shelf at 250 Hz is 0.0024 short, and neighbouring bins of Welch's windows leak into each other
    np.testing.assert_allclose(gain_db[(f > 1500) & (f < 15_000)], 3.0, atol=0.01)
    assert abs(gain_db[(f > 20) & (f < 60)]).max() < 0.5
