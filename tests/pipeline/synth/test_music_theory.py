"""Chords, voicings and musical time, against what music theory says."""

import numpy as np
import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.synth.music_theory import Clock, nearest_pitch, parse_progression, voice_chord


def test_progressions_are_read_as_chords_of_the_key() -> None:
    roots = [chord.root for chord in parse_progression("i bVI bIII bVII")]
    assert roots == [0, 8, 3, 10]
    two_five_one = parse_progression("ii7 V7 Imaj7")
    assert [chord.pitch_classes(0) for chord in two_five_one] == [(2, 5, 9, 0), (7, 11, 2, 5), (0, 4, 7, 11)]
    with pytest.raises(MixstyleError) as caught:
        parse_progression("I H V")
    assert caught.value.code == "bad-option"
    assert "'H'" in str(caught.value)


def test_sevenths_are_those_of_the_scale() -> None:
    one, five, six = parse_progression("I V vi", with_sevenths=True)
    assert (one.seventh(), five.seventh(), six.seventh()) == (11, 10, 10)


@pytest.mark.parametrize("centre", [45, 60, 71])
def test_voicings_stay_in_the_octave_around_their_centre(centre: int) -> None:
    for tonic in range(12):
        for chord in parse_progression("I ii7 bIII IV7 V vi bVII"):
            voicing = voice_chord(chord, tonic, centre)
            assert {pitch % 12 for pitch in voicing} == set(chord.pitch_classes(tonic))
            assert min(voicing) >= centre - 6
            assert max(voicing) < centre + 6


def test_nearest_pitch() -> None:
    assert nearest_pitch(61.4, (0, 4, 7)) == 60
    assert nearest_pitch(62.6, (0, 4, 7)) == 64


def test_swing_delays_off_beats_and_keeps_order() -> None:
    straight, shuffle = Clock(120.0), Clock(120.0, swing=2 / 3, swing_steps=2)
    assert straight.time_s(3) == pytest.approx(0.375)
    # a triplet shuffle puts the second eighth of a beat at two thirds of the beat
    assert shuffle.time_s(2) == pytest.approx(0.5 * 2 / 3)
    times = [shuffle.time_s(step) for step in np.arange(0, 64, 0.5)]
    assert np.all(np.diff(times) > 0)
    assert shuffle.time_s(16) == pytest.approx(straight.time_s(16))
