"""Parts as sound: their pitch by autocorrelation, their spectrum, their level and their end."""

import numpy as np
import pytest
from helpers.pitch import autocorrelation_f0, cents, hz
from scipy.signal import butter, sosfilt

from mixstyle.pipeline.synth.compose import Part
from mixstyle.pipeline.synth.instruments import RENDER_RATE, midi_bytes, render_part
from mixstyle.pipeline.synth.music_theory import Note


def test_bass_notes_have_the_pitch_of_their_midi_numbers() -> None:
    pitches = [28, 33, 38, 43, 47]
    notes = tuple(Note(0.1 + k, 0.95 + k, pitch, 100) for k, pitch in enumerate(pitches))
    audio = render_part(Part("bass", "bass", 33, notes), 5.2).mean(axis=0)
    for k, pitch in enumerate(pitches):
        start = int((0.25 + k) * RENDER_RATE)
        # the low-pass leaves the first harmonics, among which the autocorrelation finds the period
        piece = sosfilt(butter(4, 400, fs=RENDER_RATE, output="sos"), audio[start : start + RENDER_RATE // 2])
        measured = autocorrelation_f0(np.asarray(piece), RENDER_RATE, hz(pitch) * 0.7, hz(pitch) * 1.5)
        assert abs(cents(measured, hz(pitch))) < 30  # a SoundFont's samples are tuned within some cents


def test_drums_play_on_the_percussion_channel() -> None:
    """A kick has its energy low, a closed hat high; as a melodic program both would be notes."""
    centroid = {}
    for name, pitch in (("kick", 36), ("hat", 42)):
        audio = render_part(Part("drums", "drums", 0, (Note(0.1, 0.3, pitch, 110),), is_drums=True), 1.0).mean(axis=0)
        power = np.abs(np.fft.rfft(audio)) ** 2
        centroid[name] = float(np.sum(power * np.fft.rfftfreq(len(audio), 1 / RENDER_RATE)) / np.sum(power))
    assert centroid["kick"] < 300
    assert centroid["hat"] > 4000


def test_programs_change_the_sound_and_equal_midi_gives_equal_bytes() -> None:
    notes = (Note(0.0, 0.8, 60, 100),)
    piano, again, organ = (render_part(Part("x", "other", program, notes), 1.0) for program in (0, 0, 19))
    assert piano.tobytes() == again.tobytes()
    assert np.abs(piano - organ).max() > 0.01


def test_a_part_too_loud_for_the_renderer_is_not_clipped() -> None:
    """40 equal notes in phase overflow 16 bits at full volume; they must come out as 40 times one note."""
    note = Note(0.0, 1.0, 60, 127)
    one, many = (render_part(Part("x", "other", 56, (note,) * count), 1.2)[0] for count in (1, 40))
    assert np.abs(many).max() > 1.5
    # 5%: the font rounds volumes; clipped to full scale, 40 notes have 39% of the level they should have
    assert many.std() == pytest.approx(40 * one.std(), rel=0.05)


def test_midi_files_end_where_the_song_ends() -> None:
    part = Part("x", "other", 0, (Note(0.0, 9.0, 60, 100), Note(5.0, 6.0, 64, 100)))
    assert render_part(part, 3.0).shape == (2, 3 * RENDER_RATE)
    assert bytes([0x90, 64]) not in midi_bytes(part, 3.0)  # a note that starts after the end is left out
