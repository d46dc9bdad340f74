"""Descriptors of the signals that break such things: silence, constants, single samples, what is no number."""

import numpy as np
import pytest
import torch
from helpers.descriptor_signals import HARD, INDEX, RATE, music, named, one, sine, within_limits

from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("kind", HARD)
def test_every_value_is_finite_and_within_its_limits(kind: str) -> None:
    within_limits(describe(HARD[kind]())[0])


def test_silence_has_the_documented_values() -> None:
    expected = {
        "rms_left_dbfs": -120,
        "rms_right_dbfs": -120,
        "crest_db": 0,
        "loudness_lufs": -70,
        "relative_loudness_lu": -60,
        "peak_to_loudness_lu": 0,
        "tilt_db_per_octave": 0,
        "flatness_db": -60,
        "masking_db": 30,
        "correlation": 0,
        "level_difference_db": 0,
    }
    for name, value in named(describe(torch.zeros(1, 4, 2, RATE))[0]).items():
        rest = name.split("_", 1)[1]
        if rest.startswith(("band", "octave")):
            assert value == -80, name
        elif rest.startswith("mid_side"):
            assert value == 0, name
        elif rest.startswith("masked"):
            assert value == 1, name
        else:
            assert value == expected[rest], name


def test_a_silent_stem_leaves_the_others_as_they_are() -> None:
    stems = music(RATE)
    stems[:, 3] = 0
    faint = stems.clone()
    faint[:, 3] = 1e-8
    a, b = named(describe(stems)[0]), named(describe(faint)[0])
    # a constant at -160 dBFS beside music: no spectrum, and of the mix's samples about a last bit of float32; sums of
    # 8,192 squares are rounded by sqrt(8192) 2^-24 = 5.4e-6 of themselves, 2.4e-5 dB
    assert all(a[n] == pytest.approx(b[n], abs=1e-4) for n in INDEX)


def test_a_constant_has_a_level_but_no_spectrum() -> None:
    values = one(np.full((2, RATE), 0.5))
    # sums of equal powers of two are exact in float32; their roots, squared again, are off by 2^-23: 5e-7 dB
    assert values["vocals_rms_left_dbfs"] == pytest.approx(-6.0206, abs=1e-5)
    assert values["vocals_crest_db"] == pytest.approx(0, abs=1e-5)
    assert {v for n, v in values.items() if n.startswith("vocals_octave")} == {-80.0}
    assert values["vocals_tilt_db_per_octave"] == 0


def test_a_full_scale_square_reads_0_dbfs() -> None:
    values = named(describe(HARD["full-scale square"]())[0])
    # as above: exact sums, and roots that are squared again
    assert values["drums_rms_right_dbfs"] == pytest.approx(0, abs=1e-5)
    assert values["drums_crest_db"] == pytest.approx(0, abs=1e-5)


def test_one_silent_channel_is_at_the_limits() -> None:
    values = one(np.stack([np.zeros(2 * RATE), sine(300.0, 2.0)]))
    assert values["vocals_rms_left_dbfs"] == -120
    assert values["vocals_level_difference_db"] == -60
    assert values["vocals_correlation"] == 0
    # two sums of the same squares: a last bit of float32, 2^-23, is 5e-7 dB
    assert values["vocals_mid_side_db"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_not_described_as_one(bad: float) -> None:
    clips = torch.cat([music(RATE), music(RATE)])
    plain = describe(clips)
    clips[0, 1, 0, 5000] = bad
    result = describe(clips)
    for d in DESCRIPTORS:
        concerned = d.stem == "bass" or d.group == "masking" or d.name.endswith("relative_loudness_lu")
        right = d.name == "bass_rms_right_dbfs"  # the channel that is whole
        assert result[0, INDEX[d.name]].isnan() == (concerned and not right), d.name
    assert torch.equal(result[1], plain[1])
