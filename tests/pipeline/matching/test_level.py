"""A matched song is as loud as asked for, unless that is too loud for its reference or for true peak."""

import pytest

from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.matching.level import output_gain


def heard(lufs: float, peak: float) -> SongLoudness:
    return SongLoudness(lufs, 5.0, peak)


@pytest.mark.parametrize(
    ("before", "made", "level_db", "reference", "gain_db", "held"),
    [
        (heard(-16, -6), heard(-16, -6), 0.0, -16.0, 0.0, ""),
        (heard(-16, -6), heard(-18, -8), 0.0, -14.0, 2.0, ""),
        (heard(-16, -6), heard(-15, -5), 2.0, -14.0, 1.0, ""),
        (heard(-10, -1.5), heard(-10, -1.5), -2.0, -14.0, -3.5, "loudness"),  # half of -4 LU: still 2 LU too loud
        (heard(-20, -3), heard(-20, -3), 10.0, -10.0, 1.95, "ceiling"),
        (heard(-8, 0.8), heard(-8, 0.8), 0.0, None, -1.85, "ceiling"),
    ],
)
def test_gain(
    before: SongLoudness, made: SongLoudness, level_db: float, reference: float | None, gain_db: float, held: str
) -> None:
    found = output_gain(before, made, level_db, reference)
    assert found.gain_db == pytest.approx(gain_db, abs=1e-12)  # a few sums of float64 below 20: 2^-49
    assert (held in found.held_by) if held else (found.held_by == "")
    assert found.factor == pytest.approx(10 ** (gain_db / 20))
