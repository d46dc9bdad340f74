"""The loudness of whole songs against pyloudnorm, EBU's test signals, SciPy's oversampling, and itself in blocks."""

import math
from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
from helpers.descriptor_signals import RATE, phrases

from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS, k_weighting_filters, k_weighting_sections
from mixstyle.pipeline.descriptors.song_loudness import (
    INTERPOLATOR,
    PEAK_FLOOR_DBTP,
    SongLoudness,
    SongMeter,
    measure_song,
)


def tones(parts: list[tuple[float, float]], rate: int = 48_000) -> np.ndarray:
    """1 kHz in both channels at the levels (dBFS) for the seconds that are named, as EBU's test signals are."""
    tone = [
        10 ** (level / 20) * np.sin(2 * np.pi * 1_000 * np.arange(round(seconds * rate)) / rate)
        for level, seconds in parts
    ]
    return np.stack([np.concatenate(tone)] * 2).astype(np.float32)


def quarter_rate_tone(amplitude: float, phase: float, samples: int = 4_410) -> np.ndarray:
    """A tone at a quarter of the sample rate; faded at both ends, since a step overshoots. phase: rad."""
    fade = np.minimum(1, np.minimum(np.arange(samples), np.arange(samples)[::-1]) / 400)
    return (amplitude * fade * np.sin(np.pi / 2 * np.arange(samples) + phase)).astype(np.float32)[None]


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000, 192_000])
def test_the_k_weighting_is_pyloudnorms(rate: int) -> None:
    for ours, theirs in zip(k_weighting_sections(rate), k_weighting_filters(rate), strict=True):
        # equal formulas in float64, in another order: a few roundings of 1.1e-16 of terms up to 4
        np.testing.assert_allclose(ours[0], theirs[0], rtol=0, atol=1e-14)
        np.testing.assert_allclose(ours[1], theirs[1], rtol=0, atol=1e-14)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(("rate", "seconds"), [(44_100, 4.0), (44_100, 11.47), (48_000, 7.23), (22_050, 9.9)])
def test_integrated_loudness_equals_pyloudnorm(rate: int, seconds: float, channels: int) -> None:
    audio = phrases(seconds, channels, seed=round(seconds), rate=rate)
    expected = pyloudnorm.Meter(rate).integrated_loudness(audio.T.astype(np.float64))
    # both in float64; pyloudnorm's int() may round a block's edge down by a sample of 17,640: 0.00025 dB, and more
    # where a phrase that is much louder begins there
    assert measure_song(audio, rate).loudness_lufs == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("samples", [17_640, 17_641, 19_845, 19_846, 22_050, 24_255, 24_256, 66_151])
def test_a_last_part_of_a_block_counts_as_pyloudnorm_counts(samples: int) -> None:
    # rising, so that one block more or less moves the result
    noise = np.random.default_rng(0).standard_normal((2, samples)) * np.geomspace(1e-3, 0.5, samples)
    audio = noise.astype(np.float32)
    expected = pyloudnorm.Meter(RATE).integrated_loudness(audio.T.astype(np.float64))
    assert measure_song(audio, RATE).loudness_lufs == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("parts", "expected_lufs"),
    [
        ([(-23, 20)], -23.0),  # EBU Tech 3341, table 1, case 1
        ([(-33, 20)], -33.0),  # case 2
        ([(-36, 10), (-23, 60), (-36, 10)], -23.0),  # case 3: the relative gate
        ([(-72, 10), (-36, 10), (-23, 60), (-36, 10), (-72, 10)], -23.0),  # case 4: and the absolute one
        ([(-26, 20), (-20, 20.1), (-26, 20)], -23.0),  # case 5
    ],
)
def test_ebu_tech_3341_integrated_loudness(parts: list[tuple[float, float]], expected_lufs: float) -> None:
    assert measure_song(tones(parts), 48_000).loudness_lufs == pytest.approx(expected_lufs, abs=0.1)  # its tolerance


@pytest.mark.parametrize(
    ("levels_dbfs", "expected_lu"),
    [
        ((-20, -30), 10.0),  # EBU Tech 3342, table 1, case 1
        ((-20, -15), 5.0),  # case 2
        ((-40, -20), 20.0),  # case 3
        ((-50, -35, -20, -35, -50), 15.0),  # case 4: the relative gate
    ],
)
def test_ebu_tech_3342_loudness_range(levels_dbfs: tuple[float, ...], expected_lu: float) -> None:
    found = measure_song(tones([(level, 20) for level in levels_dbfs]), 48_000)
    assert found.loudness_range_lu == pytest.approx(expected_lu, abs=1.0)  # its tolerance


@pytest.mark.parametrize("seed", range(3))
def test_loudness_range_follows_the_text(seed: int) -> None:
    """Tech 3342 word by word, on music that moves: SciPy's recursion, each window by itself, gates, percentiles."""
    rate, seconds = 8_000, 60
    level_db = np.repeat(np.random.default_rng(seed).uniform(-75, -10, 15), 4 * rate)
    audio = np.random.default_rng(seed + 50).standard_normal((2, seconds * rate)) * 10 ** (level_db / 20)
    weighted = np.concatenate([audio.astype(np.float32), np.zeros((2, 3 * rate // 2), np.float32)], 1).astype(float)
    for b, a in k_weighting_filters(rate):
        weighted = np.asarray(scipy.signal.lfilter(b, a, weighted))
    weighted[:, seconds * rate :] = 0  # what follows the song is silence, not the filters' ringing
    windows = [weighted[:, i : i + 3 * rate] for i in range(0, weighted.shape[1] - 3 * rate + 1, rate // 10)]
    loudness = -0.691 + 10 * np.log10([np.square(window).mean(1).sum() for window in windows])
    kept = loudness[loudness >= -70]
    kept = kept[kept >= 10 * np.log10(np.mean(10 ** (kept / 10))) - 20]
    assert 0 < len(kept) < len(windows)
    expected = np.percentile(kept, 95) - np.percentile(kept, 10)
    # float64 both; sums in another order
    assert measure_song(audio.astype(np.float32), rate).loudness_range_lu == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(2))
def test_loudness_range_is_near_pyloudnorms(seed: int) -> None:
    audio = phrases(60, 2, seed, rate=8_000)
    expected = pyloudnorm.Meter(8_000).loudness_range(audio.T.astype(np.float64))
    # its windows advance by 90 ms in place of 100: other samples of the same course, some 600 of them, with 2 LU
    # between neighbours at most where phrases change
    assert measure_song(audio, 8_000).loudness_range_lu == pytest.approx(expected, abs=0.1)


def test_true_peak_between_samples() -> None:
    """At a quarter of the sample rate and 45 degrees all samples are 3.01 dB below the tone's peak.

    One of four times as many samples falls on the peak, so what is missing is the interpolator's gain there: its
    response in phase 2 (of 0 to 3), which passes this frequency within 0.1 dB.
    """
    audio = quarter_rate_tone(0.5, np.pi / 4)
    sample_peak = 20 * math.log10(np.abs(audio).max())
    assert sample_peak == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=1e-6)  # dB; 2^-24 of it: 5e-7
    gains = np.abs(INTERPOLATOR @ np.exp(-0.5j * np.pi * np.arange(INTERPOLATOR.shape[1])))
    assert np.abs(20 * np.log10(gains)).max() < 0.35
    found = measure_song(audio, RATE).true_peak_dbtp
    assert found - sample_peak == pytest.approx(3.01, abs=0.1)  # dB, in phase 2


@pytest.mark.parametrize(
    ("amplitude", "cycles", "degrees", "expected_dbtp"),
    [
        (0.5, 1 / 4, 0, -6.0),
        (0.5, 1 / 4, 45, -6.0),
        (0.5, 1 / 6, 60, -6.0),
        (0.5, 1 / 8, 67.5, -6.0),
        (1.41, 1 / 4, 45, 3),
    ],
)
def test_ebu_tech_3341_true_peak(amplitude: float, cycles: float, degrees: float, expected_dbtp: float) -> None:
    """Its cases 15 to 19, and its tolerance. cycles: for each sample."""
    fade = np.minimum(1, np.minimum(np.arange(8_820), np.arange(8_820)[::-1]) / 400)
    audio = amplitude * fade * np.sin(2 * np.pi * cycles * np.arange(8_820) + np.radians(degrees))
    found = measure_song(np.stack([audio, audio]).astype(np.float32), RATE).true_peak_dbtp
    assert expected_dbtp - 0.4 <= found <= expected_dbtp + 0.2


@pytest.mark.parametrize("degrees", [0, 22.5, 45, 89])
@pytest.mark.parametrize("cycles", [0.3, 1 / 6, 0.09, 0.021])
def test_true_peak_at_any_phase(degrees: float, cycles: float) -> None:
    """Of a tone, four times as many samples miss the peak by cos(pi cycles / 4) at most; each has its phase's gain."""
    audio = 0.5 * np.hanning(8_820) * np.sin(2 * np.pi * cycles * np.arange(8_820) + np.radians(degrees))
    found = 2 * 10 ** (measure_song(audio[None].astype(np.float32), RATE).true_peak_dbtp / 20)
    gains = np.abs(INTERPOLATOR @ np.exp(-2j * np.pi * cycles * np.arange(INTERPOLATOR.shape[1])))
    assert np.abs(20 * np.log10(gains)).max() < 0.5
    # the fade moves the level by 1e-5 over 20 samples around its middle
    assert gains.min() * math.cos(math.pi * cycles / 4) - 1e-4 <= found <= max(gains.max(), 1) + 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_true_peak_against_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((2, RATE)))
    spectrum[:, RATE // 4 :] = 0  # up to 11 kHz, where both filters are flat; real music has little above
    audio = np.fft.irfft(spectrum, RATE)
    audio *= 0.3 * np.hanning(RATE) / np.abs(audio).max()
    audio = audio.astype(np.float32)
    found = 10 ** (measure_song(audio, RATE).true_peak_dbtp / 20)
    # BS.1770's own filter, sample by sample
    own = max(np.abs(np.convolve(channel, phase)).max() for channel in audio for phase in INTERPOLATOR)
    assert found == pytest.approx(max(own, np.abs(audio).max()), rel=1e-6)  # 12 products in float32, 6e-8 each
    # another filter of four times the rate, whose ripple is other: +0.2 and -0.4 dB as above
    other = np.abs(scipy.signal.resample_poly(audio.astype(np.float64), 4, 1, axis=1)).max()
    assert -0.4 < 20 * math.log10(found / other) < 0.2


def test_a_peak_at_the_very_end_and_in_one_channel_is_found() -> None:
    audio = np.zeros((2, 10_000), np.float32)
    audio[1, -1] = -0.25  # the interpolator rings on after the song's end
    own = max(np.abs(np.convolve(audio[1, -50:], phase)).max() for phase in INTERPOLATOR)
    assert measure_song(audio, RATE).true_peak_dbtp == pytest.approx(20 * math.log10(max(own, 0.25)), abs=1e-5)


@pytest.mark.parametrize("sizes", [(1, 7, 4_409), (63, 4_410, 65, 128, 9_999), (4_410,), (100_003,)])
def test_in_blocks_it_is_the_whole(sizes: tuple[int, ...]) -> None:
    audio = phrases(9.31 if min(sizes) > 4_000 else 3.71, 2, seed=4)
    whole = measure_song(audio, RATE)
    meter, place, turn = SongMeter(RATE), 0, 0
    while place < audio.shape[1]:
        size = sizes[turn % len(sizes)]
        meter.add(audio[:, place : place + size])
        meter.add(audio[:, :0])  # nothing at all
        place, turn = place + size, turn + 1
    found = meter.result()
    # LU: sums of float64 in another order
    assert found.loudness_lufs == pytest.approx(whole.loudness_lufs, abs=1e-4)
    assert found.loudness_range_lu == pytest.approx(whole.loudness_range_lu, abs=1e-4)
    assert found.true_peak_dbtp == pytest.approx(whole.true_peak_dbtp, abs=1e-5)  # 12 products in float32
    assert meter.result() == found  # asking changes nothing


def test_silence_and_what_passes_no_gate() -> None:
    silent = measure_song(np.zeros((2, 5 * RATE), np.float32), RATE)
    assert (silent.loudness_lufs, silent.true_peak_dbtp) == (LOUDNESS_FLOOR_LUFS, PEAK_FLOOR_DBTP)
    assert math.isnan(silent.loudness_range_lu)
    faint = measure_song(tones([(-80, 5)]), 48_000)
    assert faint.loudness_lufs == LOUDNESS_FLOOR_LUFS
    assert faint.true_peak_dbtp == pytest.approx(-80, abs=0.2)  # dB; Tech 3341 allows +0.2 and -0.4
    nothing = SongMeter(RATE).result()
    assert (nothing.loudness_lufs, nothing.true_peak_dbtp) == (LOUDNESS_FLOOR_LUFS, PEAK_FLOOR_DBTP)
    assert math.isnan(nothing.loudness_range_lu)


@pytest.mark.parametrize(
    ("seconds", "has_loudness", "has_range"),
    [(1 / RATE, False, False), (0.3, False, False), (0.5, True, False), (1.4, True, False), (1.6, True, True)],
)
def test_very_short_songs(seconds: float, has_loudness: bool, has_range: bool) -> None:
    """A block of 0.4 s makes a loudness; 1.5 s, with the 1.5 s that may follow, make a range."""
    audio = tones([(-20, seconds)], RATE) + np.float32(0.01)
    found = measure_song(audio, RATE)
    assert (found.loudness_lufs > LOUDNESS_FLOOR_LUFS) == has_loudness
    assert math.isnan(found.loudness_range_lu) != has_range
    assert math.isfinite(found.true_peak_dbtp)


def test_json_gives_it_back() -> None:
    whole = SongLoudness(-14.2, 6.125, -0.301)
    assert SongLoudness.from_json({"path": "a.mp3", **whole.to_json()}) == whole
    short = SongLoudness(-14.2, math.nan, -0.301)
    assert short.to_json()["loudness_range_lu"] is None
    again = SongLoudness.from_json(short.to_json())
    assert again is not None
    assert math.isnan(again.loudness_range_lu)
    assert SongLoudness.from_json({"path": "a.mp3"}) is None
    assert str(short) == "-14.2 LUFS, true peak -0.3 dBTP"
    assert str(replace(short, true_peak_dbtp=-0.04)) == "-14.2 LUFS, true peak 0.0 dBTP"
    with pytest.raises(ValueError, match="10 Hz"):
        SongMeter(11_025)


def test_a_fine_meter_reads_clipped_music_as_an_ideal_interpolator_does() -> None:
    """Against 16 times oversampling by FFT, of dull noise that was clipped hard."""
    noise = np.random.default_rng(5).normal(size=(2, 30_000))
    dull = np.asarray(scipy.signal.lfilter([0.25], [1, -0.75], noise))
    band = scipy.signal.firwin(255, 19_000, fs=44_100)  # as lossy codecs leave it
    padded = np.pad(np.clip(2 * dull, -0.5, 0.5), ((0, 0), (1000, 1000)))
    clipped = np.asarray(scipy.signal.lfilter(band, 1, padded), np.float32)
    ideal_db = 20 * np.log10(np.abs(np.asarray(scipy.signal.resample(clipped, 16 * clipped.shape[1], axis=1))).max())
    found = []
    for fine in (False, True):
        meter = SongMeter(44_100, fine=fine)
        for start in range(0, clipped.shape[1], 700):
            meter.add(clipped[:, start : start + 700])
        found.append(meter.result().true_peak_dbtp)
    assert found[1] == pytest.approx(ideal_db, abs=0.05)  # dB: the margin that a match keeps
    assert found[0] < ideal_db - 0.05
