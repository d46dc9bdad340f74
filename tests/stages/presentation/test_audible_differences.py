"""What is heard comes first and once: known changes of made stems are told, and what nobody hears is not."""

import numpy as np
import pyloudnorm
import pytest
import torch
from helpers.desk_songs import RATE, stems_of, through
from helpers.numbers import numbers

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.stages.presentation.audible_differences import heard_differences, in_words, is_heard


def values_of(stems: torch.Tensor) -> np.ndarray:
    return describe(stems[None])[0].numpy()


@pytest.fixture(scope="module")
def stems() -> torch.Tensor:
    return stems_of()


@pytest.fixture(scope="module")
def mine(stems: torch.Tensor) -> np.ndarray:
    return values_of(stems)


def changed(stems: torch.Tensor, **strips: Strip) -> torch.Tensor:
    return through(stems, [strips.get(stem, Strip()) for stem in STEMS])


def test_a_fader_is_one_difference(stems: torch.Tensor, mine: np.ndarray) -> None:
    other = changed(stems, bass=Strip(gain_db=-12.0))
    found = heard_differences(mine, values_of(other))
    meter = pyloudnorm.Meter(RATE)
    before, after = (
        meter.integrated_loudness(one[1].T.numpy()) - meter.integrated_loudness(one.sum(0).T.numpy())
        for one in (stems, other)
    )
    assert (found[0].stem, found[0].aspect) == ("bass", "level")
    assert found[0].change == pytest.approx(after - before, abs=0.05)  # LU; 12 less what the mix loses
    assert numbers(found[0].text) == [round(before - after)], "without a sign: a word tells the side"
    assert [one.stem for one in found].count("bass") == 1
    assert heard_differences(mine, mine) == []
    back = heard_differences(values_of(other), mine)
    assert (back[0].stem, back[0].aspect, back[0].change) == ("bass", "level", -found[0].change)
    assert numbers(back[0].text) == numbers(found[0].text)
    assert back[0].text != found[0].text, "the side"


def test_width_place_and_octaves_are_told_where_they_are(stems: torch.Tensor, mine: np.ndarray) -> None:
    shelf = Strip((Filter("high shelf", 5000.0, 9.0),))
    other = changed(stems, drums=Strip(side_db=(0.0, 0.0, -9.0)), vocals=shelf, other=Strip(pan_percent=30.0))
    values = values_of(other)
    found = heard_differences(mine, values)
    (width,) = (one for one in found if one.aspect == "width")
    high = COLUMN["drums_mid_side_high_db"]
    # dB of mid against side, of the highest band alone; changes are rounded to 0.01 dB
    assert width.change == pytest.approx(values[high] - mine[high], abs=0.0051)
    assert (width.stem, width.change > 0, numbers(width.text)) == ("drums", True, [4]), "kHz, where the band begins"
    place = next(one for one in found if one.aspect == "place")
    left, right = Strip(pan_percent=30.0).pan_gains
    assert place.stem == "other"
    # the side of this stem is 4.4 dB below its middle, and a gain of left and right moves power from one to the other
    assert place.change == pytest.approx(20 * np.log10(left / right), abs=0.3)
    assert numbers(place.text) == [round(-place.change)]
    (brighter,) = (one for one in found if one.aspect == "spectrum")
    assert (brighter.stem, brighter.change > 0) == ("vocals", True)
    assert brighter.text.endswith(" kHz")
    assert numbers(brighter.text)[0] == round(brighter.change)
    assert {one.stem for one in found} == {"drums", "vocals", "other"}


def test_what_nobody_hears_is_not_told(mine: np.ndarray) -> None:
    column = COLUMN["bass_octave_1000hz_db"]
    for level_db, heard in ((-38.0, False), (-6.0, True)):
        first, second = mine.copy(), mine.copy()
        first[column], second[column] = level_db, level_db - 20
        found = heard_differences(first, second)
        assert bool(found) == heard
        assert is_heard(column, first, second) == heard
        assert all("Hz" in one.text and one.stem == "bass" for one in found)
    assert not is_heard(COLUMN["bass_rms_left_dbfs"], mine)
    assert not is_heard(COLUMN["bass_loudness_lufs"], mine)
    louder = mine.copy()
    louder[[COLUMN[f"{stem}_{kind}"] for stem in STEMS for kind in ("rms_left_dbfs", "rms_right_dbfs")]] += 6
    assert heard_differences(mine, louder) == []


def test_a_missing_stem_comes_first(stems: torch.Tensor, mine: np.ndarray) -> None:
    without = stems.clone()
    without[0] *= 1e-4
    found = heard_differences(mine, values_of(without))
    assert (found[0].stem, found[0].aspect, found[0].change) == ("vocals", "presence", -1)
    assert [one.stem for one in found].count("vocals") == 1
    there = heard_differences(values_of(without), mine)[0]
    assert (there.stem, there.aspect, there.change) == ("vocals", "presence", 1)
    assert there.text != found[0].text
    assert in_words(found, 1).startswith(found[0].text)
