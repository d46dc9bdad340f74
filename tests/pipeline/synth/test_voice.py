"""The sung voice, measured by oracles that know nothing of its synthesis: autocorrelation and linear prediction."""

import numpy as np
import pytest
from helpers.pitch import autocorrelation_f0, cents, hz
from scipy.linalg import solve_toeplitz
from scipy.signal import butter, sosfilt

from mixstyle.pipeline.synth.instruments import RENDER_RATE
from mixstyle.pipeline.synth.music_theory import SungNote
from mixstyle.pipeline.synth.voice import _BLOCK_S, FORMANTS_HZ, Voice, _filter, draw_voice, sing


def plain_voice(sex: str = "male", vibrato_cents: float = 0.0) -> Voice:
    """A singer without scoops, breath or jitter, so that a measurement sees what was asked for."""
    return Voice(sex, 1.0, 0.75, 0.5, 1500.0, 0.001, 5.5, vibrato_cents, 0.05, 0.0, 0.5, 0.0, 0.001)


def lpc_formants(audio: np.ndarray, rate: int, order: int) -> list[float]:
    """Frequencies of the narrow resonances of a linear prediction of the pre-emphasised signal, in Hz."""
    x = np.diff(audio) * np.hamming(len(audio) - 1)
    lags = np.correlate(x, x, "full")[len(x) - 1 : len(x) + order]
    roots = np.roots(np.concatenate([[1.0], -solve_toeplitz(lags[:-1], lags[1:])]))
    roots = roots[roots.imag > 0]
    frequency = np.angle(roots) * rate / (2 * np.pi)
    bandwidth = -np.log(np.abs(roots)) * rate / np.pi
    return sorted(float(f) for f, b in zip(frequency, bandwidth, strict=True) if 150 < f < 5000 and b < 500)


@pytest.mark.parametrize(("sex", "pitch"), [("male", 45), ("male", 57), ("female", 60), ("female", 76)])
def test_the_voice_sings_the_note_asked(sex: str, pitch: int) -> None:
    rng = np.random.default_rng(0)
    notes = [SungNote(0.1, 1.3, pitch, 95, "m", "a"), SungNote(1.3, 2.5, pitch + 4, 95, "l", "i")]
    audio = sing(notes, plain_voice(sex), 3.0, RENDER_RATE, rng)
    for note in notes:
        piece = audio[int((note.start_s + 0.3) * RENDER_RATE) : int((note.start_s + 0.9) * RENDER_RATE)]
        measured = autocorrelation_f0(piece, RENDER_RATE, hz(note.pitch) * 0.6, hz(note.pitch) * 1.6)
        assert abs(cents(measured, hz(note.pitch))) < 30


def test_drawn_voices_sing_in_tune_on_average() -> None:
    """With vibrato, drift and jitter the mean pitch of a long note still is the note's, within 30 cents."""
    for seed, kind in enumerate(("baritone", "tenor", "alto", "mezzo", "soprano")):
        rng = np.random.default_rng(seed)
        audio = sing([SungNote(0.1, 2.6, 60, 95, "", "a")], draw_voice(rng, kind), 3.0, RENDER_RATE, rng)
        frames = [audio[start : start + 2400] for start in range(24_000, 110_000, 1200)]
        measured = [cents(autocorrelation_f0(frame, RENDER_RATE, 180, 400), hz(60)) for frame in frames]
        assert abs(float(np.mean(measured))) < 30


def test_vibrato_swings_around_the_note() -> None:
    rng = np.random.default_rng(1)
    audio = sing([SungNote(0.1, 2.9, 57, 95, "", "a")], plain_voice(vibrato_cents=50.0), 3.0, RENDER_RATE, rng)
    # 35 ms windows: several periods of the voice, a fifth of a period of the vibrato
    frames = [audio[start : start + 1680] for start in range(48_000, 120_000, 480)]
    track = np.array([cents(autocorrelation_f0(frame, RENDER_RATE, 150, 330), hz(57)) for frame in frames])
    spectrum = np.abs(np.fft.rfft((track - track.mean()) * np.hanning(len(track))))
    rate_hz = float(np.fft.rfftfreq(len(track), 0.01)[np.argmax(spectrum)])
    assert 4.5 < rate_hz < 6.5
    assert 50 < np.percentile(track, 95) - np.percentile(track, 5) < 130


@pytest.mark.parametrize("vowel", ["i", "e", "a", "o", "oo"])
def test_formants_lie_where_the_vowel_has_them(vowel: str) -> None:
    """Linear prediction at 10 kHz finds F1 and F2 within a fifth, or 90 Hz: harmonics are 98 Hz apart."""
    audio = sing([SungNote(0.1, 1.4, 43, 110, "", vowel)], plain_voice(), 1.5, RENDER_RATE, np.random.default_rng(2))
    piece = np.asarray(sosfilt(butter(8, 4600, fs=RENDER_RATE, output="sos"), audio), float)[24_000:48_000]
    piece = np.interp(np.arange(0, len(piece), 4.8), np.arange(len(piece)), piece)
    found = lpc_formants(piece, 10_000, 12)
    for wanted in FORMANTS_HZ["male"][vowel][:2]:
        nearest = min(found, key=lambda f: abs(f - wanted))
        assert abs(nearest - wanted) < max(0.2 * wanted, 90), (vowel, wanted, found)


def test_a_fricative_comes_before_its_vowel_and_rests_are_silent() -> None:
    voice = plain_voice()
    audio = sing([SungNote(1.0, 1.8, 50, 100, "s", "a")], voice, 3.0, RENDER_RATE, np.random.default_rng(3))
    high = np.asarray(sosfilt(butter(6, 5000, "highpass", fs=RENDER_RATE, output="sos"), audio))
    hiss, vowel = high[int(0.91 * RENDER_RATE) : int(0.98 * RENDER_RATE)], high[int(1.3 * RENDER_RATE) :]
    assert hiss.std() > 5 * vowel[: RENDER_RATE // 4].std()
    # -120 dBFS, half a second after the note's end: 0.1 s after it, what rings is below -190 dBFS
    assert np.abs(audio[int(2.3 * RENDER_RATE) :]).max() < 1e-6
    assert not sing([], voice, 1.0, RENDER_RATE, np.random.default_rng(3)).any()


def test_spoken_syllables_fall_in_pitch_and_sung_ones_stay() -> None:
    falls = []
    for spoken in (False, True):
        note = SungNote(0.1, 0.9, 50, 95, "", "a", spoken=spoken)
        audio = sing([note], plain_voice(), 1.2, RENDER_RATE, np.random.default_rng(4))
        early, late = (
            autocorrelation_f0(audio[int(at * RENDER_RATE) :][:3600], RENDER_RATE, 100, 220) for at in (0.2, 0.75)
        )
        falls.append(cents(late, early))
    assert abs(falls[0]) < 15
    assert falls[1] < -25


def test_voices_repeat_to_the_byte_and_differ_from_singer_to_singer() -> None:
    notes = [SungNote(0.1, 0.9, 60, 95, "s", "a", "n")]
    takes = []
    for seed in (1, 1, 2):
        rng = np.random.default_rng(seed)
        takes.append(sing(notes, draw_voice(rng, "alto"), 1.0, RENDER_RATE, rng).tobytes())
    assert takes[0] == takes[1] != takes[2]


@pytest.mark.parametrize("semitones_per_s", [0.03, 0.1, 1.0])
def test_blocks_that_share_a_filter_sound_as_if_each_had_its_own(semitones_per_s: float) -> None:
    block, blocks = int(_BLOCK_S * RENDER_RATE), 200
    source = np.random.default_rng(0).standard_normal(blocks * block).astype(np.float32)
    hz = np.array([500.0, 1500, 2500, 3500, 4500]) * 2 ** (semitones_per_s * np.arange(blocks)[:, None] * _BLOCK_S / 12)
    radius, angle = np.exp(-np.pi * (60 + 0.06 * hz) / RENDER_RATE), 2 * np.pi * hz / RENDER_RATE
    sections = np.zeros((blocks, 5, 6))
    sections[..., 3], sections[..., 4], sections[..., 5] = 1, -2 * radius * np.cos(angle), radius**2
    sections[..., 0] = sections[..., 3:].sum(-1)  # 0 dB at 0 Hz
    expected, state = np.zeros(len(source)), np.zeros((5, 2))
    for place in range(blocks):
        span = slice(place * block, (place + 1) * block)
        expected[span], state = sosfilt(sections[place], source[span], zi=state)
    error = _filter(source, sections, RENDER_RATE) - expected
    # dB against the voice: 16 bits of noise are at -98, consonants at -40. Steps 100 times as large give -45 and -29.
    assert 10 * np.log10(np.square(error).sum() / np.square(expected).sum()) < -60
