"""Descriptors against a float64 oracle, known answers and invariances."""

import re

import numpy as np
import pytest
import scipy.signal
import torch
from helpers import descriptor_oracle
from helpers.descriptor_signals import INDEX, RATE, both, coloured, music, named, one, sine

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors import spectrum as descriptor_spectrum
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION, describe

UNITS = {"dBFS", "dB", "LUFS", "LU", "dB/octave", "1"}
SUM_DB = 1e-4
"""What float32 does to a level: a sum of 8,192 squares is rounded by some sqrt(8192) 2^-24 = 5.4e-6 of itself, which is
2.4e-5 dB, and a ratio of two by 3.3e-5 dB; three times that."""


pytestmark = pytest.mark.usefixtures("one_thread")


# --- the table


def test_the_table_describes_the_columns() -> None:
    assert describe(torch.zeros(2, 4, 2, RATE)).shape == (2, len(DESCRIPTORS))
    assert len(INDEX) == len(DESCRIPTORS) == 128
    assert DESCRIPTORS_VERSION >= 1
    suffix = {"dB": "_db", "dBFS": "_dbfs", "LUFS": "_lufs", "LU": "_lu", "dB/octave": "_db_per_octave"}
    for d in DESCRIPTORS:
        assert d.name.startswith(f"{d.stem}_")
        assert d.stem in STEMS
        assert d.unit in UNITS
        assert d.name.endswith(suffix.get(d.unit, ("_share", "correlation")))
        assert d.formula
        assert d.source
    moving = {d.kind for d in DESCRIPTORS if d.moves_with_level}
    assert moving == {"rms_left_dbfs", "rms_right_dbfs", "loudness_lufs"}


@pytest.mark.parametrize("stem", STEMS)
def test_every_stem_has_all_groups(stem: str) -> None:
    groups = [d.group for d in DESCRIPTORS if d.stem == stem]
    assert [(g, groups.count(g)) for g in dict.fromkeys(groups)] == [
        ("dynamics", 6),
        ("spectral", 15),
        ("stereo", 6),
        ("masking", 5),
    ]


# --- exact


@pytest.fixture(scope="module")
def compared() -> tuple[np.ndarray, np.ndarray]:
    stems = music()
    return describe(stems)[0].double().numpy(), descriptor_oracle.oracle(stems[0].numpy())


@pytest.mark.parametrize("group", ["dynamics", "spectral", "stereo", "masking"])
def test_equals_the_float64_oracle(compared: tuple[np.ndarray, np.ndarray], group: str) -> None:
    ours, expected = compared
    columns = [i for i, d in enumerate(DESCRIPTORS) if d.group == group]
    # 1e-3 of the unit; loudness differs by single samples at the edges of pyloudnorm's blocks.
    wrong = {DESCRIPTORS[i].name: (ours[i], expected[i]) for i in columns if not abs(ours[i] - expected[i]) <= 1e-3}
    assert not wrong


def test_equals_the_float64_oracle_at_48_khz() -> None:
    """Where the top octave ends below half the rate."""
    stems = 0.1 * torch.randn(1, 4, 2, 2 * 48_000, generator=torch.Generator().manual_seed(0))
    stems[:, :, 1] = 0.6 * stems[:, :, 0] + 0.4 * stems[:, :, 1]
    ours = describe(stems, 48_000)[0].double().numpy()
    # 1e-3 of the unit, as at 44.1 kHz; noise up to 24 kHz as part of the total would be 0.26 dB
    np.testing.assert_allclose(ours, descriptor_oracle.oracle(stems[0].numpy(), 48_000), rtol=0, atol=1e-3)


def test_the_oracle_sees_no_floors(compared: tuple[np.ndarray, np.ndarray]) -> None:
    """Else the comparison would be one of constants."""
    _, expected = compared
    floors = [-120, -80, -70, -60, 60, 30, 0, 1]
    assert not [d.name for d, v in zip(DESCRIPTORS, expected, strict=True) if v in floors]


def test_the_decimator_is_flat_where_it_is_read_and_lets_nothing_alias() -> None:
    hz, response = map(np.asarray, scipy.signal.freqz(descriptor_spectrum.decimator(), worN=16_384, fs=RATE))
    level_db = 20 * np.log10(np.abs(response) + 1e-12)
    # The highest bin that is read lies at 355 Hz, and its Hann window's main lobe reaches 22 Hz further.
    reach_hz = 377.0
    assert np.abs(level_db[hz <= reach_hz]).max() < 1e-3  # dB: no more than descriptors may be off
    folded = np.abs((hz + RATE / 32) % (RATE / 16) - RATE / 32)
    assert level_db[(hz > RATE / 32) & (folded <= reach_hz)].max() < -85


@pytest.mark.parametrize("rate", [32_000, 44_100, 48_000])
def test_band_shares_add_up(rate: int) -> None:
    edges = descriptor_spectrum.band_edges()
    for window in (1024, 256):
        shares = descriptor_spectrum.bin_shares(edges, window, rate)
        octaves, regions = shares[:, :10].sum(1), shares[:, 10:].sum(1)
        hz = np.arange(window // 2 + 1) * rate / window
        inside = (hz > 60) & (hz < min(rate / 2, 20_000))
        np.testing.assert_allclose(octaves[inside], 1)
        np.testing.assert_allclose(regions[inside], 1)


# --- known answers


def test_a_sine_has_its_textbook_values() -> None:
    values = one(both(sine(1000.0)))
    root_db = 10 * np.log10(2)
    assert values["vocals_rms_left_dbfs"] == pytest.approx(20 * np.log10(0.5) - root_db, abs=SUM_DB)
    # 44,100 / 1,000 is 44.1, so there are samples at 441 phases: the nearest one misses the peak by (pi / 441)^2 / 2
    assert values["vocals_crest_db"] == pytest.approx(root_db, abs=SUM_DB + 2.3e-4)
    assert values["vocals_loudness_lufs"] == pytest.approx(-6.02, abs=0.1)  # in both channels: 0 dB less 6.02
    assert values["vocals_relative_loudness_lu"] == pytest.approx(0, abs=1e-3)
    assert values["vocals_peak_to_loudness_lu"] == pytest.approx(0, abs=0.1)  # peak -6.02 dBFS, and -6.02 LUFS
    # 0.01 dB: the reflection at the ends has a kink, which spreads over the spectrum.
    assert values["vocals_octave_1000hz_db"] == pytest.approx(0, abs=0.01)
    assert values["vocals_band_mid_db"] == pytest.approx(0, abs=0.01)
    assert values["vocals_correlation"] == pytest.approx(1, abs=1e-5)
    assert values["vocals_mid_side_db"] == 60
    assert values["vocals_flatness_db"] < -40


@pytest.mark.parametrize(("slope_db", "flat_octaves"), [(0.0, False), (-3.0103, True), (-6.0206, False)])
def test_tilt_is_the_slope_of_the_density(slope_db: float, flat_octaves: bool) -> None:
    values = one(0.1 * both(coloured(np.random.default_rng(0), 10 * RATE, slope_db)))
    # A 10 s noise's octaves scatter: 620 degrees of freedom at 62 Hz are 0.25 dB.
    assert values["vocals_tilt_db_per_octave"] == pytest.approx(slope_db, abs=0.1)
    difference_db = abs(values["vocals_octave_4000hz_db"] - values["vocals_octave_250hz_db"])
    assert (difference_db < 0.5) == flat_octaves


def test_flatness_of_noise_is_that_of_its_degrees_of_freedom() -> None:
    noise = np.random.default_rng(0).standard_normal((2, 10 * RATE)) * 0.1
    values = one(noise)
    # Bins of independent mid and side are chi-squared with 4 degrees of freedom: 10 log10 e (digamma(2) - log 2).
    digamma_2 = 1 - 0.5772156649
    assert values["vocals_flatness_db"] == pytest.approx(10 * np.log10(np.e) * (digamma_2 - np.log(2)), abs=0.03)


@pytest.mark.parametrize("hz", [31.25, 62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000])
def test_tones_fall_into_their_octaves(hz: float) -> None:
    values = one(both(sine(hz)))
    name = f"vocals_octave_{int(hz + 0.5)}hz_db"
    assert values[name] > -0.5
    octaves = {n: v for n, v in values.items() if n.startswith("vocals_octave")}
    assert max(octaves, key=lambda n: octaves[n]) == name


def test_a_kick_and_a_bass_line_are_told_apart() -> None:
    """50 and 110 Hz, 12 dB apart: windows of 23 ms would see one for the other."""
    values = one(both(sine(50.0)), both(sine(110.0, amplitude=0.125)))
    assert values["bass_octave_125hz_db"] > -0.3
    assert values["bass_masked_by_vocals_share"] < 0.5


def test_panning_reads_as_level_difference_and_correlation() -> None:
    tone = sine(440.0)
    values = one(np.stack([tone, tone / 2]))
    assert values["vocals_level_difference_db"] == pytest.approx(6.0206, abs=SUM_DB)
    assert values["vocals_mid_side_db"] == pytest.approx(20 * np.log10(3), abs=SUM_DB)
    assert values["vocals_mid_side_mid_db"] == pytest.approx(20 * np.log10(3), abs=SUM_DB)
    # of 1, as the sums of `SUM_DB`: 5.4e-6 of each power
    assert values["vocals_correlation"] == pytest.approx(1, abs=1e-5)
    against = one(np.stack([tone, -tone]))
    assert against["vocals_correlation"] == pytest.approx(-1, abs=1e-5)
    assert against["vocals_mid_side_db"] == -60
    quadrature = one(np.stack([tone, 0.5 * np.cos(2 * np.pi * 440 * np.arange(len(tone)) / RATE)]))
    assert quadrature["vocals_correlation"] == pytest.approx(0, abs=1e-5)  # whole periods; float32 as above


def test_width_is_measured_by_band() -> None:
    low, high = sine(100.0), sine(6000.0)
    values = one(np.stack([low + high, low - high]))
    assert values["vocals_mid_side_low_db"] > 40
    assert values["vocals_mid_side_high_db"] < -40


def test_a_narrow_side_is_still_exact() -> None:
    """50 dB down, float32 would lose it in the difference of two powers."""
    rng = np.random.default_rng(0)
    mid, side = coloured(rng, 2 * RATE, -3), coloured(rng, 2 * RATE, -3)
    side *= 10 ** (-50 / 20) * np.sqrt(np.mean(mid**2) / np.mean(side**2))
    values = one(0.1 * np.stack([mid + side, mid - side]))
    assert values["vocals_mid_side_db"] == pytest.approx(50, abs=1e-2)  # float32 samples: their last bit is -144 dB


def test_masking_is_the_level_of_the_others() -> None:
    noise = 0.05 * coloured(np.random.default_rng(0), 3 * RATE, -3)
    stems = torch.from_numpy(np.stack([both(noise)] * 4)[None]).float()
    gains_db = torch.tensor([0.0, 6.0, -40.0, -6.0])
    values = named(describe(stems * 10 ** (gains_db[None, :, None, None] / 20))[0])
    others = {
        s: 10 * np.log10(sum(10 ** (g / 10) for g in np.delete(gains_db.numpy(), i))) for i, s in enumerate(STEMS)
    }
    for stem, own_db in zip(STEMS, gains_db.tolist(), strict=True):
        expected = np.clip(others[stem] - own_db, -30, 30)
        assert values[f"{stem}_masking_db"] == pytest.approx(expected, abs=SUM_DB)
        assert values[f"{stem}_masked_share"] == (1.0 if others[stem] > own_db else 0.0)
        for other, other_db in zip(STEMS, gains_db.tolist(), strict=True):
            if other != stem:
                assert values[f"{stem}_masked_by_{other}_share"] == float(other_db > own_db)


def test_masking_counts_only_where_the_stem_plays() -> None:
    first, second = np.zeros((2, 4 * RATE))
    first[: 2 * RATE] = sine(1000.0, 2.0)
    second[2 * RATE :] = sine(1000.0, 2.0)
    values = one(both(first), both(second))
    assert values["vocals_masked_share"] < 0.1  # the frames that hold the change, in all bands
    both_half = one(both(first), both(2 * sine(1000.0, 4.0) * (np.arange(4 * RATE) > RATE)))
    assert both_half["vocals_masked_by_bass_share"] == pytest.approx(0.5, abs=0.1)  # as above


def test_mix_is_the_sum_of_the_stems() -> None:
    tone = both(sine(500.0))
    values = one(tone, -tone)  # they cancel
    assert values["vocals_loudness_lufs"] == pytest.approx(values["bass_loudness_lufs"])
    assert values["vocals_relative_loudness_lu"] == 60
    values = one(tone, tone)
    assert values["vocals_relative_loudness_lu"] == pytest.approx(-6.0206, abs=1e-3)


# --- invariances


@pytest.mark.parametrize("gain_db", [-14.5, 5.0])
def test_a_gain_moves_levels_and_nothing_else(gain_db: float) -> None:
    stems = music(seed=1)
    before, after = describe(stems)[0], describe(stems * 10 ** (gain_db / 20))[0]
    moves = torch.tensor([gain_db * d.moves_with_level for d in DESCRIPTORS])
    wrong = {n: (b, a) for n, b, a, m in zip(INDEX, before, after, moves, strict=True) if abs(a - b - m) > SUM_DB}
    assert not wrong


def test_swapping_left_and_right_mirrors_the_stereo_group() -> None:
    stems = music(seed=2)
    before, after = named(describe(stems)[0]), named(describe(stems.flip(2))[0])
    for name, value in before.items():
        expected = {
            "level_difference_db": -value,
            "rms_left_dbfs": before[name.replace("left", "right")],
            "rms_right_dbfs": before[name.replace("right", "left")],
        }.get(name.split("_", 1)[1], value)
        assert after[name] == pytest.approx(expected, abs=SUM_DB), name


def test_permuting_stems_permutes_the_result() -> None:
    stems = music(seed=3)
    order = [2, 0, 3, 1]
    before, after = named(describe(stems)[0]), named(describe(stems[:, order])[0])
    became = {STEMS[old]: STEMS[new] for new, old in enumerate(order)}
    for d in DESCRIPTORS:
        name = d.name.removeprefix(d.stem)
        if "_masked_by_" in name:
            name = re.sub("|".join(STEMS), lambda match: became[match.group()], name)
        assert after[became[d.stem] + name] == pytest.approx(before[d.name], abs=SUM_DB), d.name


def test_a_clip_does_not_depend_on_its_batch() -> None:
    clips = torch.cat([music(RATE, seed) for seed in range(3)])
    together = describe(clips)
    for i in range(3):
        assert torch.equal(describe(clips[i : i + 1])[0], together[i])


def test_many_clips_at_once_are_the_same_as_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way of a GPU, run here."""
    clips = torch.cat([music(RATE, seed) for seed in range(3)])
    alone = describe(clips)
    monkeypatch.setattr("mixstyle.pipeline.descriptors.compute._CLIPS_AT_ONCE", {})
    torch.testing.assert_close(describe(clips), alone, atol=SUM_DB, rtol=0)


@pytest.mark.parametrize("change", ["float64", "strided", "inference", "autocast", "medium"])
def test_kind_of_tensor_and_mode_do_not_matter(change: str) -> None:
    stems = music(RATE, seed=4)
    plain = describe(stems)
    before = torch.get_float32_matmul_precision()
    try:
        if change == "float64":
            result = describe(stems.double())
        elif change == "strided":
            result = describe(stems.permute(3, 0, 1, 2).contiguous().permute(1, 2, 3, 0))
        elif change == "inference":
            with torch.inference_mode():
                result = describe(stems)
        elif change == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                result = describe(stems)
        else:
            torch.set_float32_matmul_precision("medium")
            result = describe(stems)
    finally:
        torch.set_float32_matmul_precision(before)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, plain, atol=SUM_DB, rtol=0)


def test_no_clips_give_no_rows() -> None:
    assert describe(torch.zeros(0, 4, 2, RATE)).shape == (0, len(DESCRIPTORS))


@pytest.mark.parametrize(
    ("shape", "rate", "named_in"),
    [
        ((4, 2, RATE), RATE, "stems should be"),
        ((1, 2, 4, RATE), RATE, "stems should be"),
        ((1, 4, 2, 17_639), RATE, "17639 samples is too short"),
        ((1, 4, 2, RATE), 22_050, "22050 is too low"),
        ((1, 4, 2, RATE), 44_101, "44101"),
    ],
)
def test_refuses_what_it_cannot_describe(shape: tuple[int, ...], rate: int, named_in: str) -> None:
    with pytest.raises(ValueError, match=named_in):
        describe(torch.zeros(shape), rate)
