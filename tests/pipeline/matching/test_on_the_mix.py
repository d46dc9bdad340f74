"""What is set on a mix: third octaves of middle and side are found, and what is not there is not raised."""

from dataclasses import replace

import numpy as np
import torch
from helpers.desk_songs import stems_of, through

from mixstyle.pipeline.matching.desk import WIDE, Filter, Strip
from mixstyle.pipeline.matching.equaliser import filters_db, total_db
from mixstyle.pipeline.matching.estimate import side_db
from mixstyle.pipeline.matching.on_the_mix import mix_strip
from mixstyle.pipeline.matching.profile import stem_power


def mix_of() -> np.ndarray:
    return stems_of().sum(0).numpy()


def through_mix(mix: np.ndarray, strip: Strip) -> np.ndarray:
    return through(torch.from_numpy(mix)[None].repeat(4, 1, 1), (strip,) * 4)[0].numpy()


def off_db(found: np.ndarray, told: np.ndarray) -> float:
    """The farthest third octave, but for a constant, from 177 Hz up: below, noise of 3 s tells little."""
    apart = (found - told)[9:]
    return float(np.abs(apart - np.median(apart)).max())


def test_third_octaves_of_middle_and_side_are_found() -> None:
    mix = mix_of()
    known = Strip(
        (Filter("bell", 2000.0, -8.0, 2.8), Filter("high shelf", 9000.0, 6.0)),
        side_equaliser=(Filter("bell", 1000.0, 5.0, 2.0), Filter("bell", 8000.0, -5.0, 1.4)),
    )
    found = mix_strip([mix], [through_mix(mix, known)])
    assert off_db(filters_db(found.filters), filters_db(known.filters)) < 1.2  # dB
    assert np.abs(side_db(found) - side_db(known))[12:].max() < 1.2
    assert (found.gain_db, found.inserts, found.pan_percent, found.side_db) == (0.0, (), 0.0, (0.0, 0.0, 0.0))
    half = mix_strip([mix], [through_mix(mix, known)], 0.5)
    assert off_db(filters_db(half.filters), filters_db(found.filters) / 2) < 0.6
    made = stem_power([through_mix(mix, found)])
    wanted = stem_power([through_mix(mix, known)])
    for one, other in ((made.mid, wanted.mid), (made.side, wanted.side)):
        assert off_db(10 * np.log10(one), 10 * np.log10(other)) < 1.2


def test_a_mix_like_the_reference_stays() -> None:
    mix = mix_of()
    assert mix_strip([mix], [mix]) == Strip()
    assert mix_strip([mix], [0.3 * mix]) == Strip()  # its level is set at the end
    assert mix_strip([mix], [through_mix(mix, Strip((Filter("bell", 1000.0, 6.0),)))], 0.0) == Strip()


def test_what_is_not_there_is_not_raised() -> None:
    mix = mix_of()
    low = tuple(Filter("high shelf", hz, -24.0) for hz in (3000.0, 3000.0, 4000.0))
    raised = mix_strip([through_mix(mix, Strip(low))], [mix])
    assert filters_db(raised.filters)[-4:].max() < 3.0  # dB: 65 dB below the mix, whatever the reference has
    narrow = np.stack([mix.mean(0), mix.mean(0)])
    assert mix_strip([narrow], [mix]).side_equaliser == ()
    assert mix_strip([mix], [mix[::-1]], stereo=False).side_equaliser == ()
    wide = mix_strip([mix], [through_mix(mix, Strip(side_db=(6.0, 6.0, 6.0)))])
    assert side_db(wide)[:9].max() < 1.0  # below 177 Hz the side is never raised
    assert side_db(wide)[14:].min() > 4.0


def test_sums_are_in_bounds() -> None:
    mix = mix_of()
    far = Strip((Filter("high shelf", 3000.0, 20.0),), side_db=(0.0, 20.0, 20.0))
    found = mix_strip([mix], [through_mix(mix, far)])
    assert np.abs(total_db(found.filters)).max() <= WIDE.filter_db
    assert np.abs(total_db(found.side_equaliser)).max() <= WIDE.side_db
    assert Strip.from_json(found.to_json()) == found
    assert replace(found, side_equaliser=()).to_json().keys() == Strip().to_json().keys()
