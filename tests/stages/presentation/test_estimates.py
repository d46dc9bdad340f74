"""How shares and intervals are written, and what is said of too few songs."""

import pytest
from helpers.numbers import numbers

from mixstyle.stages.presentation.estimates import FEW_SONGS, evidence_note, percent, percent_cell, share


def test_an_interval_stands_behind_its_share() -> None:
    entry = {"r1": 0.434, "r1_low": 0.35, "r1_high": 0.512}
    assert percent(entry, "r1") == "43.4 [35, 51]"
    assert share(0.5, 0.25, 0.75, digits=1) == ("50.0%", "[25.0, 75.0]")
    assert share(0.031, -0.01, 0.05, signed=True) == ("+3.1 points", "[-1, +5]")


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_interval_without_width_is_not_written(value: float) -> None:
    assert percent_cell({"r1": value, "r1_low": value, "r1_high": value}, "r1") == (f"{100 * value:.1f}", "")
    assert share(value, value, value)[1] == ""


def test_too_few_songs_are_said_to_be_no_evidence() -> None:
    assert numbers(evidence_note(2)) == [2]
    assert evidence_note(FEW_SONGS - 1)
    assert evidence_note(FEW_SONGS) == ""
