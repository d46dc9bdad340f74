"""Tunes: no note a semitone from a chord's tone, accents where the beat is."""

import numpy as np
import pytest

from mixstyle.pipeline.synth.melody import Motif, TuneFrame, sing_motif
from mixstyle.pipeline.synth.music_theory import Clock, parse_progression

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)


def frame_of(numeral: str, scale: tuple[int, ...] = MAJOR, tonic: int = 2) -> TuneFrame:
    return TuneFrame(Clock(120.0), tonic, scale, parse_progression(numeral), centre=62)


@pytest.mark.parametrize(("numeral", "scale"), [("I", MAJOR), ("V7", MAJOR), ("i", MINOR), ("bVI", MINOR)])
def test_no_note_is_a_semitone_from_a_tone_of_the_chord(numeral: str, scale: tuple[int, ...]) -> None:
    """A minor second or a major seventh against the chord is what theory calls an avoid note."""
    frame = frame_of(numeral, scale)
    classes = frame.chord_of_bar[0].pitch_classes(frame.tonic)
    passing = 0
    for degree in range(-7, 8):
        pitch = frame.pitch(degree, 1, strong=False)
        assert abs(pitch - frame.centre) <= frame.reach
        if pitch % 12 not in classes:
            passing += 1
            assert (pitch + 1) % 12 not in classes
            assert (pitch - 1) % 12 not in classes
        assert frame.pitch(degree, 0, strong=True) % 12 in classes
    assert passing, "other notes of the scale are sung too"


def test_the_first_and_the_middle_beat_are_accented() -> None:
    """By 8 in MIDI velocity: of a 4/4 bar of sixteenths steps 0 and 8, and not 4 and 12."""
    motif = Motif(tuple((step, 1, 0) for step in (0, 4, 8, 12)), (("", "a", ""),) * 4)
    rng = np.random.default_rng(0)
    sung = [sing_motif(motif, frame_of("I"), 0, 0, 80.0, rng, rap=False) for _ in range(400)]
    means = np.mean([[note.velocity for note in notes] for notes in sung], axis=0)
    # velocities are cut down to whole numbers, which takes 0.5; four standard errors of 400 draws that deviate by 5
    np.testing.assert_allclose(means, np.array([88, 80, 88, 80]) - 0.5, atol=4 * 5 / 400**0.5, rtol=0)
