"""The bells of a graphic equaliser make the curve that is asked for, within their bound."""

import numpy as np
import pytest
from scipy.signal import freqz_sos

from mixstyle.pipeline.matching.desk import Filter
from mixstyle.pipeline.matching.equaliser import filters_db
from mixstyle.pipeline.matching.graphic import CENTRES_HZ, bell_q, graphic_filters
from mixstyle.pipeline.matching.profile import BANDS, band_edges_hz

ONES = np.ones(BANDS)


def response_db(filters: tuple[Filter, ...], hz: np.ndarray) -> np.ndarray:
    """By scipy, from the sections."""
    sections = np.array([one.section(44_100) for one in filters])
    return 20 * np.log10(np.abs(freqz_sos(sections, worN=hz, fs=44_100)[1]))  # pyright: ignore[reportArgumentType]


def test_there_is_a_bell_in_each_third_octave_and_as_wide() -> None:
    for hz, (low, high) in zip(CENTRES_HZ, band_edges_hz()[:-1], strict=True):
        assert hz / np.sqrt(low * high) == pytest.approx(1, abs=0.02)  # ISO 266 rounds
        bell = (Filter("bell", hz, 6.0, bell_q(hz)),)
        edges = response_db(bell, np.array([hz * 2 ** (-1 / 6), hz, hz * 2 ** (1 / 6)]))
        # half of the gain, in dB, is left at both edges; near half the sampling rate the bell leans to lower ones
        assert edges == pytest.approx([3, 6, 3], abs=0.1 if hz < 4000 else 1.5)


@pytest.mark.parametrize("steep", [1.0, 2.0])
def test_curves_are_met(steep: float) -> None:
    wanted = steep * np.concatenate([np.linspace(-3, 3, 15), np.linspace(3, -5, 15)])
    filters = graphic_filters(wanted, ONES, 12.0)
    found = response_db(filters, np.array(CENTRES_HZ))
    assert np.abs(found - wanted[:-1])[1:].max() < 1.0  # dB: of bells that overlap, in steps of 0.1 dB
    assert filters_db(filters)[-1] == pytest.approx(wanted[-1], abs=0.8)
    half = graphic_filters(wanted, ONES, 12.0, 0.5)
    assert np.abs(response_db(half, np.array(CENTRES_HZ)) - found / 2).max() < 0.6
    # a single band moves its neighbours little
    alone = np.zeros(BANDS)
    alone[15] = 6.0
    curve = filters_db(graphic_filters(alone, ONES, 12.0))
    assert curve[15] > 4.0
    assert np.abs(np.delete(curve, [14, 15, 16])).max() < 1.0


@pytest.mark.parametrize("most_db", [3.0, 12.0])
def test_the_sum_is_in_bounds(most_db: float) -> None:
    hz = np.geomspace(20, 20_000, 2000)
    for wanted in (40 * ONES, np.where(np.arange(BANDS) % 2, 30.0, -30.0), np.linspace(-30, 30, BANDS)):
        filters = graphic_filters(wanted, ONES, most_db)
        # dB: between the points that are looked at
        assert np.abs(response_db(filters, hz)).max() <= most_db + 0.25
    assert graphic_filters(0 * ONES, ONES, most_db) == ()
    assert graphic_filters(wanted, 0 * ONES, most_db) == ()
    assert graphic_filters(wanted, ONES, most_db, 0.0) == ()
