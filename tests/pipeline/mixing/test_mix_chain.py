"""What mixes are made of beyond the published effects: measured on signals with known answers; chains on the mix."""

import math

import numpy as np
import pyloudnorm
import pytest
import scipy.signal
import torch
from helpers.paths import ROOT
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.fxnorm import StemTargets, fx_normalise
from mixstyle.pipeline.mixing.mix_chain import (
    CHAIN_PARAMETERS,
    Effect,
    MixChain,
    MixChainSettings,
    apply_mix_chain,
    chain_vector,
    draw_mix_chain,
    mix_chain_vector,
)

NONE = ((), (), (), ())


def level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64)) + 1e-20))


def apply(name: str, audio: np.ndarray, **parameters: float) -> np.ndarray:
    return EFFECTS[name].process(audio.astype(np.float32), parameters, SAMPLE_RATE)


def stereo(left: np.ndarray, right: np.ndarray | None = None) -> np.ndarray:
    return np.stack([left, left if right is None else right]).astype(np.float32)


def sine(hz: float, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)


def middle(name: str) -> Effect:
    values = {key: p.low + 0.7 * (p.high - p.low) for key, p in EFFECTS[name].parameters.items()}
    return Effect(name, values)


@pytest.mark.parametrize("name", EFFECTS)
def test_on_the_mix_the_stems_add_up_to_the_processed_mix(name: str) -> None:
    stems, effect = stems_of(3, 1.0), middle(name)
    out = apply_mix_chain(stems, MixChain(NONE, (effect,)))
    expected = EFFECTS[name].process(stems.sum(0), effect.parameters, SAMPLE_RATE)
    # -80 dB: of a mix near zero the gain is its neighbours', and float32 sums round
    assert level_db(out.sum(0) - expected) < level_db(expected) - 80
    assert level_db(out.sum(0) - stems.sum(0)) > level_db(stems) - 40, "it should do something"


def test_one_stem_alone_is_processed_as_a_mix_is() -> None:
    stems = np.zeros((4, 2, SAMPLE_RATE), np.float32)
    stems[2] = stems_of(4, 1.0)[2]
    for name in EFFECTS:
        effect = middle(name)
        on_mix = apply_mix_chain(stems, MixChain(NONE, (effect,)))
        on_stem = apply_mix_chain(stems, MixChain(((), (), (effect,), ())))
        assert level_db(on_mix - on_stem) < level_db(on_stem) - 80, name
        assert np.abs(on_mix[[0, 1, 3]]).max() == 0, "a silent stem has no part in it"


def test_eq_moves_what_is_at_its_centres() -> None:
    impulse = np.zeros(SAMPLE_RATE)
    impulse[0] = 1
    setting = {
        "low_hz": 200.0,
        "low_gain_db": 9.0,
        "low_q": 2.0,
        "high_hz": 4000.0,
        "high_gain_db": -6.0,
        "high_q": 2.0,
    }
    spectrum = np.abs(np.fft.rfft(apply("eq", stereo(impulse), **setting)[0].astype(np.float64)))
    found = {hz: 20 * math.log10(spectrum[hz]) for hz in (20, 200, 900, 4000, 18_000)}
    assert found[200] == pytest.approx(9.0, abs=0.1)  # dB
    assert found[4000] == pytest.approx(-6.0, abs=0.1)
    for hz in (20, 900, 18_000):
        assert abs(found[hz]) < 0.6


@pytest.mark.parametrize("pan", [-0.8, -0.2, 0.5])
def test_pan_keeps_the_power_and_moves_the_sides(pan: float) -> None:
    mono = stereo(sine(440))
    out = apply("pan", mono, pan=pan)
    angle = (pan + 1) * math.pi / 4
    assert level_db(out[1]) - level_db(out[0]) == pytest.approx(20 * math.log10(math.tan(angle)), abs=0.01)  # dB
    assert level_db(out) == pytest.approx(level_db(mono), abs=0.01)


def test_width_moves_the_side_alone() -> None:
    audio = stereo(sine(300), sine(500))
    out = apply("width", audio, side_gain_db=-6.0)
    assert level_db(out[0] + out[1]) == pytest.approx(level_db(audio[0] + audio[1]), abs=0.01)  # dB
    assert level_db(out[0] - out[1]) == pytest.approx(level_db(audio[0] - audio[1]) - 6, abs=0.01)


def test_saturation_is_tanh_at_the_drive_it_says() -> None:
    audio = stereo(0.01 * sine(1000))
    for drive_db in (3.0, 12.0, 24.0):
        out = apply("saturation", audio, drive_db=drive_db)
        driven = sine(1000) * math.sqrt(2) * 10 ** ((drive_db - 18) / 20)
        expected = np.tanh(driven)
        expected *= np.sqrt(np.mean(np.square(audio[0], dtype=np.float64)) / np.mean(expected**2))
        assert level_db(out[0] - expected) < level_db(expected) - 80, drive_db  # dB


def swells() -> np.ndarray:
    """Noise, quiet and loud in turn, 40 dB apart."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * SAMPLE_RATE)
    loud = (np.arange(noise.size) // (SAMPLE_RATE // 4)) % 2
    return stereo(noise * np.where(loud, 1.0, 0.01))


@pytest.mark.parametrize("ratio", [2.0, 4.0])
def test_gate_lowers_what_is_quiet(ratio: float) -> None:
    audio = swells()
    setting = {"threshold_db": -20.0, "ratio": ratio, "attack_ms": 1.0, "release_ms": 50.0}
    out = apply("gate", audio, **setting)
    quiet, loud = slice(int(0.15 * SAMPLE_RATE), SAMPLE_RATE // 4), slice(int(0.35 * SAMPLE_RATE), SAMPLE_RATE // 2)
    before = level_db(audio[:, loud]) - level_db(audio[:, quiet])
    after = level_db(out[:, loud]) - level_db(out[:, quiet])
    # How far the quiet part lies below the threshold; the detector follows peaks, 4.8 dB over this noise's RMS level.
    below_db = (level_db(audio) - level_db(audio[:, quiet])) - 20 - 20 * math.log10(math.sqrt(3))
    assert after - before == pytest.approx(below_db * (ratio - 1), abs=1.5)  # dB
    # dB: the level is given back by a factor in float32, and each sample is rounded: 2 x 2^-24 are 1e-6
    assert level_db(out) == pytest.approx(level_db(audio), abs=1e-5)


def test_limiter_lowers_the_crest_factor() -> None:
    clicks = 0.02 * np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE)
    clicks[::11_025] = 0.9
    audio = stereo(np.asarray(scipy.signal.lfilter([1], [1, -0.9], clicks)))
    crest = {}
    for threshold_db in (9.0, 0.0, -3.0):
        out = apply("limiter", audio, threshold_db=threshold_db, release_ms=50.0)
        crest[threshold_db] = 20 * math.log10(np.abs(out).max()) - level_db(out)
        assert level_db(out) == pytest.approx(level_db(audio), abs=1e-5)  # dB: a factor in float32, as for the gate
    assert crest[-3.0] < crest[0.0] < crest[9.0] < 20 * math.log10(np.abs(audio).max()) - level_db(audio)


def test_delay_has_echoes_where_and_as_loud_as_it_says() -> None:
    impulse = np.zeros(SAMPLE_RATE)
    impulse[100] = 1
    out = apply("delay", stereo(impulse), delay_ms=200.0, feedback=0.5, echo_gain_db=-12.0)[0]
    places = np.flatnonzero(np.abs(out) > 1e-3)  # between silence and the last echo, 0.03
    step = round(0.2 * SAMPLE_RATE)
    assert np.abs(places - [100 + k * step for k in range(5)]).max() <= 1  # samples
    first = 10 ** (-12 / 20)
    np.testing.assert_allclose(out[places], [1, first, first / 2, first / 4, first / 8], rtol=1e-4)


def test_loudness_is_matched_by_the_standard() -> None:
    stems = stems_of(7, 3.0)
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    settings = MixChainSettings(1.0, 9.0, tuple(EFFECTS), mix_prob=0.5, shuffle=True, loudness_match=True)
    for seed in range(3):
        out = apply_mix_chain(stems, draw_mix_chain(np.random.default_rng(seed), settings))
        found, expected = (meter.integrated_loudness(x.sum(0).T.astype(np.float64)) for x in (out, stems))
        assert found == pytest.approx(expected, abs=0.05)  # LU
    silence = np.zeros_like(stems)
    assert not apply_mix_chain(silence, draw_mix_chain(np.random.default_rng(0), settings)).any()


def test_a_chain_as_numbers() -> None:
    assert not chain_vector(()).any()
    for name, spec in EFFECTS.items():
        for bound, told in (("low", -1.0), ("high", 1.0)):
            effect = Effect(name, {key: getattr(p, bound) for key, p in spec.parameters.items()})
            vector = dict(zip(CHAIN_PARAMETERS, chain_vector((effect,)), strict=True))
            own = {key for key in vector if key.startswith(f"{name}_")}
            assert vector.pop(f"{name}_on") == 1
            for key, value in vector.items():
                # float64, stored as float32: 2^-24 = 6e-8 at 1
                assert value == pytest.approx(told if key in own else 0, abs=1e-7), key
    drawn = draw_mix_chain(np.random.default_rng(0), MixChainSettings(0.5, 9.0, mix_prob=0.5))
    np.testing.assert_array_equal(mix_chain_vector(drawn)[: len(CHAIN_PARAMETERS)], chain_vector(drawn.stems[0]))
    np.testing.assert_array_equal(mix_chain_vector(drawn)[-len(CHAIN_PARAMETERS) :], chain_vector(drawn.mix))


def test_the_docs_name_every_effect_and_its_bounds() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    for name, spec in EFFECTS.items():
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert spec.doc in row
        for key, parameter in spec.parameters.items():
            assert f"`{key}` {parameter.low:g} to {parameter.high:g}" in row


def test_stems_that_the_mix_hardly_has_are_not_raised() -> None:
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    stems = stems_of(9, 2.0)
    for i, below_lu in enumerate((0.0, 0.0, 25.0, 35.0)):  # the rule: absent from 30 LU below the mix on
        stems[i] *= np.float32(10 ** ((-20 - below_lu - meter.integrated_loudness(stems[i].T.astype(float))) / 20))
    out = apply_mix_chain(stems, MixChain(NONE, stem_lufs=(-16.0,) * 4))
    found = [meter.integrated_loudness(x.T.astype(float)) for x in out]
    # 0.1 LU: the gates of pyloudnorm's blocks; the mix is 3 LU above its two loud stems, -17 LUFS
    assert found[:3] == pytest.approx([-16.0] * 3, abs=0.1)
    np.testing.assert_array_equal(out[3], stems[3])


def test_order_is_drawn_and_recorded() -> None:
    settings = MixChainSettings(1.0, 9.0, ("gain", "tilt", "eq"), mix_prob=1.0, shuffle=True)
    orders = {tuple(e.name for e in draw_mix_chain(np.random.default_rng(s), settings).mix) for s in range(40)}
    assert len(orders) == 6
    with pytest.raises(ValueError, match="flanger"):
        MixChainSettings(effects=("flanger",))
    with pytest.raises(ValueError, match="gain_range_db"):
        MixChainSettings(gain_range_db=0.0, effects=("gain",))


def test_fx_normalisation_undoes_a_mix() -> None:
    names = [d.name for d in DESCRIPTORS]
    # noise that falls by 3 to 6 dB per octave: a lone tone at an octave's edge would belong to two of them
    rng = np.random.default_rng(0)
    spectra = np.fft.rfft(rng.standard_normal((4, 2, 3 * SAMPLE_RATE)))
    spectra *= (1 + np.arange(spectra.shape[-1]) / 100) ** -np.array([0.5, 1.0, 0.7, 0.6])[:, None, None]
    stems = np.fft.irfft(spectra).astype(np.float32)
    stems[:, 1] = 0.6 * stems[:, 0] + 0.5 * stems[:, 1]
    stems *= 0.1 / np.abs(stems).max()
    wanted = dict(zip(names, describe(torch.from_numpy(stems[None]))[0].tolist(), strict=True))
    chain = (
        Effect("tilt", {"tilt_db": 8.0}),
        Effect("width", {"side_gain_db": 6.0}),
        Effect("pan", {"pan": 0.4}),
        Effect("gain", {"gain_db": -7.0}),
    )
    mixed = apply_mix_chain(stems, MixChain((chain,) * 4))
    targets = StemTargets.from_medians(names, np.array(list(wanted.values())))
    out = fx_normalise(mixed, targets)
    before, after = (
        dict(zip(names, describe(torch.from_numpy(x[None]))[0].tolist(), strict=True)) for x in (mixed, out)
    )
    for stem in STEMS:
        for octave in (125, 250, 500, 1000, 2000, 4000, 8000):
            name = f"{stem}_octave_{octave}hz_db"
            assert after[name] == pytest.approx(wanted[name], abs=0.6), name  # dB
        assert after[f"{stem}_loudness_lufs"] == pytest.approx(wanted[f"{stem}_loudness_lufs"], abs=0.02)  # LU
        # width is set after balance, and moves it a little where the sides are alike
        assert after[f"{stem}_mid_side_db"] == pytest.approx(wanted[f"{stem}_mid_side_db"], abs=0.1)  # dB
        for name in (f"{stem}_level_difference_db", f"{stem}_tilt_db_per_octave"):
            assert abs(after[name] - wanted[name]) < 0.3 * abs(before[name] - wanted[name]), name
    silent = np.zeros((4, 2, SAMPLE_RATE), np.float32)
    np.testing.assert_array_equal(fx_normalise(silent, targets), silent)
