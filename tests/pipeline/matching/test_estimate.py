"""A mix through known strips is brought back to what it was made like; what should stay stays."""

from dataclasses import replace

import numpy as np
import pyloudnorm
import pytest
import torch
from helpers.desk_songs import KNOWN, RATE, stems_of, through
from scipy.signal import freqz_sos

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.pipeline.matching.desk import FULL, GENTLE, WIDE, Filter, Strip
from mixstyle.pipeline.matching.equaliser import filters_db, fit_filters, octave_change_db, settled, total_db
from mixstyle.pipeline.matching.estimate import estimate
from mixstyle.pipeline.matching.profile import MixProfile, mean_profile, measure_profile


@pytest.fixture(scope="module")
def mine() -> MixProfile:
    return measure_profile([stems_of()])


@pytest.fixture(scope="module")
def reference() -> MixProfile:
    return measure_profile([through(stems_of())])


def test_known_strips_are_found(mine: MixProfile, reference: MixProfile) -> None:
    found = estimate(mine, reference)
    assert found.notes == ()
    for strip, known, power in zip(found.strips, KNOWN, mine.stems, strict=True):
        # pan by the level difference: 1% is 0.14 dB
        assert strip.pan_percent == pytest.approx(known.pan_percent, abs=2)
        curve, told = (octave_change_db(power.total, filters_db(one.filters)) for one in (strip, known))
        assert np.ptp((curve - told)[1:]) < 1.2  # dB between octaves, from 62 Hz up: 0.3 is good enough for the fit
    for low, high in zip(found.strips[3].side_db[1:], KNOWN[3].side_db[1:], strict=True):
        assert low == pytest.approx(high, abs=0.6)  # dB of the side


def test_the_matched_stems_measure_as_the_reference_does(mine: MixProfile, reference: MixProfile) -> None:
    strips = estimate(mine, reference).strips
    made, wanted, before = through(stems_of(), strips), through(stems_of()), stems_of()
    meter = pyloudnorm.Meter(RATE)

    def relative(stems: torch.Tensor) -> np.ndarray:
        return np.array([meter.integrated_loudness(s.T.numpy()) for s in (*stems, stems.sum(0))])

    after_lu, wanted_lu, before_lu = (lufs[:4] - lufs[4] for lufs in map(relative, (made, wanted, before)))
    assert np.abs(before_lu - wanted_lu).max() > 2
    assert np.abs(after_lu - wanted_lu).max() < 0.3  # LU; faders move in 0.1 dB, filters are met within 0.3 dB
    values = [dict(zip(COLUMN, describe(s[None])[0].tolist(), strict=True)) for s in (before, made, wanted)]
    for stem in STEMS:
        for kind, tolerance in (("octave_125hz_db", 0.8), ("octave_8000hz_db", 0.8), ("level_difference_db", 0.4)):
            _, after, goal = (one[f"{stem}_{kind}"] for one in values)
            assert after == pytest.approx(goal, abs=tolerance), (stem, kind)  # dB


def test_a_mix_like_the_reference_stays(mine: MixProfile) -> None:
    assert estimate(mine, mine).strips == (Strip(),) * 4
    other_take = estimate(mine, measure_profile([stems_of(seed=7)]))
    # Other noise of the same spectrum. Most of what lies below 250 Hz lies within some 10 Hz, so that 3 s tell its
    # power by some 30 independent values: 10 log10(1 + sqrt(2 / 30)) is 1.0 dB for each of the two.
    for strip in other_take.strips:
        values = [strip.gain_db, *strip.side_db, *(one.gain_db for one in strip.filters)]
        assert max(map(abs, values)) < 2  # dB
        assert abs(strip.pan_percent) <= 3


def test_amount_and_bounds_scale_and_hold(mine: MixProfile, reference: MixProfile) -> None:
    assert estimate(mine, reference, 0.0).strips == (Strip(),) * 4
    full, half = (estimate(mine, reference, amount).strips for amount in (1.0, 0.5))
    # both are rounded, to 1% and to 0.1 dB: by half a step of their own and half of half a step
    assert half[3].pan_percent == pytest.approx(full[3].pan_percent / 2, abs=0.76)
    assert half[3].side_db[1] == pytest.approx(full[3].side_db[1] / 2, abs=0.076)
    far = tuple(
        Strip((Filter("high shelf", 3000.0, gain),), -60.0, (0.0, 12.0, 12.0), gain) for gain in (20, -20, 9, 0)
    )
    found = estimate(mine, measure_profile([through(stems_of(), far)]), bounds=GENTLE)
    for strip in found.strips:
        assert abs(strip.gain_db) <= GENTLE.gain_db
        assert max(map(abs, strip.side_db)) <= GENTLE.share * GENTLE.side_db
        assert np.abs(total_db(strip.filters)).max() <= GENTLE.share * GENTLE.filter_db
        assert abs(strip.pan_percent) <= 41  # 6 dB of left against right are 40.8%
    assert any("bound" in note for note in found.notes)


def test_a_source_off_the_centre_is_not_widened() -> None:
    mono = stems_of().mean(1, keepdim=True).repeat(1, 2, 1)
    for bounds in (FULL, WIDE):
        sides = [tuple(Strip(pan_percent=pan) for pan in pans) for pans in ((-70, 0, 30, 70), (70, 40, -30, -70))]
        mine, wanted = (measure_profile([through(mono, strips)]) for strips in sides)
        found = estimate(replace(mine, mono=False), replace(wanted, mono=False), bounds=bounds)
        for strip, one, other in zip(found.strips, mine.stems, wanted.stems, strict=True):
            assert strip.side_db == (0.0, 0.0, 0.0)
            asked = float(np.clip(other.level_difference_db - one.level_difference_db, -bounds.pan_db, bounds.pan_db))
            left, right = strip.pan_gains
            # pan is set in percent: half of one is 0.34 dB at 87%
            assert 20 * np.log10(left / right) == pytest.approx(asked, abs=0.4)


def test_kept_and_absent_stems_stay(mine: MixProfile, reference: MixProfile) -> None:
    found = estimate(mine, reference, keep=["vocals"]).strips
    assert found[0] == Strip()
    # bass 5 dB up against vocals that stay 2 dB too loud for the reference: 3 - -2, less what its shelf gives
    assert found[1].gain_db > estimate(mine, reference).strips[1].gain_db
    quiet = stems_of()
    quiet[1] *= 1e-3
    without = measure_profile([quiet])
    for here, there in ((without, reference), (mine, without)):
        found = estimate(here, there)
        assert found.strips[1] == Strip()
        assert [note.startswith("bass") for note in found.notes] == [True]


def test_mono_stays_mono(mine: MixProfile, reference: MixProfile) -> None:
    mono = measure_profile([stems_of().mean(1, keepdim=True).repeat(1, 2, 1)])
    assert (mono.mono, mine.mono) == (True, False)
    for here, there in ((mono, reference), (mine, mono)):
        found = estimate(here, there)
        assert all(strip == strip.without_stereo() for strip in found.strips)
        assert any("mono" in note for note in found.notes)
        assert any(strip.changes for strip in found.strips)


def test_nothing_is_raised_where_a_stem_has_nothing(mine: MixProfile, reference: MixProfile) -> None:
    power = mine.stems[1]
    cut = replace(power, mid=power.mid * (np.arange(30) < 18), side=power.side * 0)  # nothing above 1.4 kHz
    dull = replace(mine, stems=(mine.stems[0], cut, *mine.stems[2:]))
    found = estimate(dull, reference).strips[1]
    assert max(filters_db(found.filters)[22:]) < 0.5  # dB, above 3.5 kHz


def test_several_references_are_their_mean(mine: MixProfile, reference: MixProfile) -> None:
    assert mean_profile([mine]) is mine
    same = estimate(mine, mean_profile([reference, reference])).strips
    for one, other in zip(same, estimate(mine, reference).strips, strict=True):
        # a mean of equal powers may differ in its last bit, which may round to the next step of 0.1 dB
        assert one.gain_db == pytest.approx(other.gain_db, abs=0.11)
    middle = mean_profile([mine, reference])
    np.testing.assert_allclose(middle.relative_lu, (mine.relative_lu + reference.relative_lu) / 2)


def test_what_there_is_not_is_refused(mine: MixProfile) -> None:
    for amount, keep in ((1.5, []), (1.0, ["guitar"])):
        with pytest.raises(ValueError):
            estimate(mine, mine, amount, keep)


def test_a_curve_is_met_by_few_filters() -> None:
    flat = np.ones(30)
    target = np.array([4.0, 4, 3, 1, 0, 0, 0, -1, -3, -3.5])
    found = fit_filters(flat, target, np.ones(10), 6.0)
    left = octave_change_db(flat, filters_db(found)) - target
    assert len(found) <= 4
    assert np.std(left) < 0.5  # dB
    assert fit_filters(flat, np.full(10, 5.0), np.ones(10), 6.0) == ()  # the fader's


def test_filters_at_their_bounds_do_not_fight() -> None:
    power = 10 ** (-np.abs(np.arange(30) - 6) / 8)  # most of it at 80 Hz, as a bass has
    target = np.array([-22.0, -8, 5, 11, 10, 4, 0, 0, 0, 0])
    found = fit_filters(power, target, np.ones(10), 3.0)
    assert found
    for one in found:
        for other in found:
            near = abs(np.log2(one.frequency_hz / other.frequency_hz)) < 0.5
            assert not near or one.gain_db * other.gain_db > 0 or one == other
    left = octave_change_db(power, filters_db(found)) - np.clip(target - target.mean(), -3, 3)
    assert np.std(left) < np.std(np.clip(target - target.mean(), -3, 3))


@pytest.mark.parametrize("bound_db", [3.0, 6.0])
def test_the_sum_of_filters_is_in_bounds_and_none_takes_back_another(bound_db: float) -> None:
    rng = np.random.default_rng(5)
    hz = np.geomspace(20, 20_000, 500)
    nearer = []
    for _ in range(25):
        power = 10 ** (-np.abs(np.arange(30) - rng.uniform(3, 25)) * rng.uniform(0.02, 0.2))
        target = np.cumsum(rng.normal(0, 4, 10))
        found = settled(fit_filters(power, target, np.ones(10), bound_db), 1.0, bound_db)
        responses = [freqz_sos(one.section(RATE)[None], hz, fs=RATE)[1] for one in found]  # pyright: ignore[reportArgumentType]
        curves = [20 * np.log10(np.abs(one)) for one in responses]
        total = np.sum(curves, axis=0) if found else np.zeros(1)
        taken_back = (np.sum(np.abs(curves), axis=0) - np.abs(total)) / 2
        # between the frequencies looked at, a twelfth of an octave apart, a bell of Q 1.4 moves by 0.03 dB
        assert np.abs(total).max() <= bound_db + 0.03
        assert np.max(taken_back) <= 1.03
        assert all(one.gain_db == round(one.gain_db, 1) and abs(one.gain_db) >= 0.3 for one in found)
        asked = target.mean() + np.clip(target - target.mean(), -bound_db, bound_db)
        nearer.append(np.std(octave_change_db(power, filters_db(found)) - asked) / np.std(asked))
    assert np.median(nearer) < 0.7  # of curves that jump by 4 dB an octave, four filters in bounds leave so much
    assert max(nearer) < 1
    half = settled((Filter("bell", 1000.0, 5.0, 0.7), Filter("bell", 1100.0, -4.8, 0.7)), 0.5, bound_db)
    assert half == (Filter("bell", 1000.0, 2.5, 0.7),)
