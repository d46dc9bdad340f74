"""Filters are those that desks have: another library's, and of minimum phase; strips come back from JSON."""

import math

import numpy as np
import pedalboard
import pytest
from helpers.desk_songs import KNOWN, RATE

from mixstyle.pipeline.matching.desk import Filter, Strip, pan_of

OTHERS = {
    "bell": pedalboard.PeakFilter,
    "low shelf": pedalboard.LowShelfFilter,
    "high shelf": pedalboard.HighShelfFilter,
}


@pytest.mark.parametrize("kind", list(OTHERS))
@pytest.mark.parametrize(("hz", "gain_db", "q"), [(120.0, 4.5, 0.707), (3000.0, -6.0, 1.4), (9000.0, 2.0, 0.7)])
def test_responses_are_those_of_another_library(kind: str, hz: float, gain_db: float, q: float) -> None:
    one = Filter(kind, hz, gain_db, q)  # pyright: ignore[reportArgumentType]
    impulse = np.zeros((1, 16_384), np.float32)
    impulse[0, 0] = 1
    other = OTHERS[kind](cutoff_frequency_hz=hz, gain_db=gain_db, q=q)
    spectrum = np.fft.rfft(other(impulse, RATE)[0].astype(np.float64))
    bins = np.arange(20, 7000, 97)
    found = one.response_db(bins * RATE / 16_384, RATE)
    np.testing.assert_allclose(found, 20 * np.log10(np.abs(spectrum[bins])), atol=0.01)  # dB; the other is in float32
    section = one.section(RATE)
    assert np.abs(np.roots(section[:3])).max() < 1  # minimum phase
    assert np.abs(np.roots(section[3:])).max() < 1  # stable


def test_pan_moves_left_over_right_by_what_is_asked() -> None:
    for level_db in (-6.0, -0.5, 0.0, 3.0):
        left, right = Strip(pan_percent=pan_of(level_db)).pan_gains
        assert 20 * math.log10(left / right) == pytest.approx(level_db, abs=1e-9)
        assert left**2 + right**2 == pytest.approx(2)


def test_strips_come_back_from_json() -> None:
    for strip in KNOWN:
        assert Strip.from_json(strip.to_json()) == strip
    assert str(KNOWN[1]) == "+3.0 dB, low shelf +4.0 dB at 120 Hz"
    assert str(Strip()) == "as it is"
    good = KNOWN[0].to_json()
    for bad in (
        {**good, "gain_db": 99.0},
        {**good, "gain_db": math.nan},
        {**good, "side_db": [0.0, 0.0]},
        {**good, "reverb": 1},
        {**good, "equaliser": [{"kind": "notch", "frequency_hz": 100.0, "gain_db": 1.0, "q": 1.0}]},
    ):
        with pytest.raises(ValueError):
            Strip.from_json(bad)
