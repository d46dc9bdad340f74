"""Every effect at its bounds, on music, silence and an impulse: finite, as long as before, and what its name says."""

import hashlib
import itertools
import json

import numpy as np
import pytest
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.mixing.effects import EFFECTS, PUBLISHED, effect_versions
from mixstyle.pipeline.mixing.effects.spec import effect
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain, MixChainSettings, apply_mix_chain, draw_mix_chain

SECONDS = 1.0


def impulse() -> np.ndarray:
    stems = np.zeros((4, 2, SAMPLE_RATE), np.float32)
    stems[:, :, 1000] = 1.0
    return stems


# Level made up for, one lone sample is what it was; and a mono one has no width.
UNCHANGED = {(name, "impulse") for name in ("compression", "gate", "limiter", "saturation", "width")}
SIGNALS = {"music": stems_of(5, SECONDS), "silence": np.zeros((4, 2, SAMPLE_RATE), np.float32), "impulse": impulse()}


def only(name: str, **parameters: float) -> MixChain:
    """A mix chain with one effect, on the first stem."""
    return MixChain(((Effect(name, parameters),), (), (), ()))


def at_bounds(name: str) -> list[dict[str, float]]:
    parameters = EFFECTS[name].parameters
    return [
        dict(zip(parameters, values, strict=True))
        for values in itertools.product(*((p.low, p.high) for p in parameters.values()))
    ]


def middle(name: str) -> dict[str, float]:
    return {key: (p.low + p.high) / 2 for key, p in EFFECTS[name].parameters.items()}


def test_the_registry_is_what_stored_audio_was_made_with() -> None:
    # the order decides which effect a seed draws: effects, kinds and bounds of all that is stored so far
    names = "gain tilt compression bandwidth reverb eq pan width saturation gate limiter delay"
    assert " ".join(EFFECTS) == names
    assert effect_versions() == dict.fromkeys(EFFECTS, 1)
    assert [name for name, spec in EFFECTS.items() if spec.kind == "gain"] == names.split()[2:3] + names.split()[8:11]
    bounds = [
        (name, key, p.low, p.high, p.log, p.apart)
        for name, spec in EFFECTS.items()
        for key, p in spec.parameters.items()
    ]
    assert hashlib.sha256(repr(bounds).encode()).hexdigest()[:16] == "c4c2d39687bede87"
    with pytest.raises(ValueError, match="gain"):
        effect("gain", "Taken.", {}, place=1000)(EFFECTS["gain"].process)
    with pytest.raises(ValueError, match="gain"):
        effect("another", "At a taken place.", {}, place=EFFECTS["gain"].place)(EFFECTS["gain"].process)


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("name", EFFECTS)
def test_every_effect_at_its_bounds(name: str, signal: str) -> None:
    stems = SIGNALS[signal]
    before = stems.copy()
    for parameters in at_bounds(name):
        out = apply_mix_chain(stems, only(name, **parameters))
        assert out.shape == stems.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        np.testing.assert_array_equal(out[1:], stems[1:], err_msg="stems without effects should not change")
        if signal == "silence":
            assert np.abs(out).max() < 1e-6  # -120 dBFS
        elif (name, signal) not in UNCHANGED:
            assert not np.array_equal(out[0], stems[0])
    np.testing.assert_array_equal(stems, before, err_msg="the input should not change")


def rms_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(audio, dtype=np.float64))))


def spectrum_db(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    power = np.square(np.abs(np.fft.rfft(audio.astype(np.float64)))).mean(0)
    return np.fft.rfftfreq(audio.shape[-1], 1 / SAMPLE_RATE), 10 * np.log10(power + 1e-20)


def response_db(mix_chain: MixChain) -> tuple[np.ndarray, np.ndarray]:
    """The first stem's magnitude response, from its impulse response."""
    return spectrum_db(apply_mix_chain(SIGNALS["impulse"], mix_chain)[0])


@pytest.mark.parametrize("gain_db", [-9.0, 4.5, 9.0])
def test_gain_moves_the_level(gain_db: float) -> None:
    music = SIGNALS["music"]
    out = apply_mix_chain(music, only("gain", gain_db=gain_db))
    assert rms_db(out[0]) - rms_db(music[0]) == pytest.approx(gain_db, abs=0.01)  # dB


@pytest.mark.parametrize("tilt_db", [-12.0, -3.0, 6.0, 12.0])
def test_tilt_turns_about_its_pivot(tilt_db: float) -> None:
    hz, db = response_db(only("tilt", tilt_db=tilt_db))
    low, pivot, high = (db[np.argmin(np.abs(hz - f))] for f in (40, 1000, 18_000))
    assert high - low == pytest.approx(tilt_db, abs=0.5)  # dB; the shelves reach their plateaus slowly
    assert pivot == pytest.approx(0, abs=0.6)
    fit = (hz >= 125) & (hz <= 8000)
    slope = np.polyfit(np.log2(hz[fit]), db[fit], 1)[0]
    # over the six octaves between: never steeper than the whole tilt there, nor less than half of it
    assert 0.5 < slope / (tilt_db / 6) < 1.2


def bursts() -> np.ndarray:
    """Noise that swells twice a second, slowly against the attack: quiet most of the time."""
    rng = np.random.default_rng(0)
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    loud = 0.05 + 0.95 * np.sin(2 * np.pi * time_s) ** 16
    return np.broadcast_to(rng.uniform(-0.8, 0.8, time_s.size) * loud, (4, 2, time_s.size)).astype(np.float32)


@pytest.mark.parametrize("ratio", [2.0, 4.0, 10.0])
def test_compression_lowers_the_crest_factor_and_keeps_the_level(ratio: float) -> None:
    stems = bursts()
    setting = {"threshold_db": -12.0, "ratio": ratio, "attack_ms": 1.0, "release_ms": 50.0}
    out = apply_mix_chain(stems, only("compression", **setting))[0]
    crest = [20 * np.log10(np.abs(x).max()) - rms_db(x) for x in (stems[0], out)]
    dynamics = [
        np.ptp([rms_db(part) for part in np.array_split(x[:, SAMPLE_RATE:], 40, axis=-1)]) for x in (stems[0], out)
    ]
    assert dynamics[1] < dynamics[0] - 1  # dB between loud and quiet parts
    assert crest[1] < crest[0] - 1  # dB
    assert rms_db(out) == pytest.approx(rms_db(stems[0]), abs=0.01)


def test_more_ratio_compresses_more() -> None:
    stems = bursts()
    ranges_db = []
    for ratio in (2.0, 4.0, 10.0):
        setting = {"threshold_db": -18.0, "ratio": ratio, "attack_ms": 1.0, "release_ms": 50.0}
        out = apply_mix_chain(stems, only("compression", **setting))[0]
        ranges_db.append(np.ptp([rms_db(part) for part in np.array_split(out[:, SAMPLE_RATE:], 40, axis=-1)]))
    assert ranges_db[0] > ranges_db[1] > ranges_db[2]


def test_a_quiet_stem_is_compressed_like_a_loud_one() -> None:
    setting = middle("compression")
    loud = apply_mix_chain(bursts(), only("compression", **setting))[0]
    quiet = apply_mix_chain(bursts() * np.float32(0.01), only("compression", **setting))[0]
    # the threshold follows the level; 0.1 dB: the detector has a floor
    assert rms_db(quiet * 100 - loud) < rms_db(loud) - 39


def test_bandwidth_cuts_outside_and_keeps_inside() -> None:
    hz, db = response_db(only("bandwidth", highpass_hz=200.0, lowpass_hz=5000.0))
    at = {f: db[np.argmin(np.abs(hz - f))] for f in (25, 50, 1000, 10_000, 20_000)}
    # dB: at each end two first-order sections made by the bilinear transform, w = pi / 44,100 Hz:
    # 20 log10(1 + (tan 200w / tan 1000w)^2) = 0.340 and 20 log10(1 + (tan 1000w / tan 5000w)^2) = 0.313
    assert at[1000] == pytest.approx(-0.653, abs=0.01)
    assert at[50] - at[25] == pytest.approx(12, abs=2)  # dB per octave
    assert at[20_000] < at[10_000] - 10
    assert at[10_000] < -10


def test_reverb_adds_a_tail_that_differs_between_the_sides() -> None:
    setting = {"room_size": 0.8, "damping": 0.3, "wet_level": 0.3, "width": 1.0}
    out = apply_mix_chain(SIGNALS["impulse"], only("reverb", **setting))[0]
    tail = out[:, 3000:20_000]
    assert rms_db(tail) > -70
    assert abs(np.corrcoef(tail)[0, 1]) < 0.5
    # the dry impulse keeps its level
    assert out[:, 1000] == pytest.approx(1.0, abs=0.02)
    small = apply_mix_chain(SIGNALS["impulse"], only("reverb", **{**setting, "wet_level": 0.1}))[0]
    assert rms_db(out[:, 3000:]) - rms_db(small[:, 3000:]) == pytest.approx(20 * np.log10(3), abs=0.5)


def test_the_same_seed_gives_the_same_record_and_bytes() -> None:
    settings = MixChainSettings(0.5, 9.0)
    first, second = (draw_mix_chain(np.random.default_rng(7), settings) for _ in range(2))
    assert first == second
    np.testing.assert_array_equal(apply_mix_chain(SIGNALS["music"], first), apply_mix_chain(SIGNALS["music"], second))
    assert draw_mix_chain(np.random.default_rng(8), settings) != first


def test_draws_stay_within_their_bounds_and_survive_json() -> None:
    rng, settings = np.random.default_rng(0), MixChainSettings(0.5, 6.0)
    counts: dict[str, int] = dict.fromkeys(PUBLISHED, 0)
    for _ in range(1000):
        mix_chain = draw_mix_chain(rng, settings)
        assert MixChain.from_json(json.loads(json.dumps(mix_chain.to_json()))) == mix_chain
        for one in itertools.chain(*mix_chain.stems):
            counts[one.name] += 1
            for key, value in one.parameters.items():
                bound = EFFECTS[one.name].parameters[key]
                assert bound.low <= value <= bound.high
                assert abs(value) >= bound.apart
                assert key != "gain_db" or abs(value) <= 6.0
    for name, count in counts.items():
        # 4000 draws at one half: four standard deviations are 126
        assert abs(count - 2000) < 126, name


@pytest.mark.parametrize("gain_range_db", [0.0, 1.0, 9.0])
def test_something_is_always_done(gain_range_db: float) -> None:
    rng = np.random.default_rng(1)
    seen = set()
    for _ in range(200):
        mix_chain = draw_mix_chain(rng, MixChainSettings(0.0, gain_range_db))
        (effect,) = itertools.chain(*mix_chain.stems)
        seen.add(effect.name)
        if effect.name == "gain":
            assert 0 < abs(effect.parameters["gain_db"]) <= gain_range_db
    assert seen == set(PUBLISHED) - ({"gain"} if gain_range_db == 0 else set())


def test_everything_at_once_is_finite() -> None:
    mix_chain = draw_mix_chain(np.random.default_rng(2), MixChainSettings(1.0, 9.0))
    assert [len(chain) for chain in mix_chain.stems] == [len(PUBLISHED)] * len(STEMS)
    assert np.isfinite(apply_mix_chain(SIGNALS["music"], mix_chain)).all()
    assert np.isfinite(apply_mix_chain(SIGNALS["music"], mix_chain, 11_025)).all(), "corners above Nyquist"


def test_what_cannot_be_done_is_refused() -> None:
    music = SIGNALS["music"]
    with pytest.raises(ValueError, match="flanger"):
        apply_mix_chain(music, only("flanger", depth=1.0))
    with pytest.raises(ValueError, match="gain"):
        apply_mix_chain(music, only("gain", gain=1.0))
    with pytest.raises(ValueError, match="NaN"):
        apply_mix_chain(np.where(music == music.max(), np.nan, music), only("gain", gain_db=1.0))
    with pytest.raises(ValueError, match=r"\[4, 2, T\]"):
        apply_mix_chain(music[:3], only("gain", gain_db=1.0))
    with pytest.raises(ValueError, match="aug_prob"):
        MixChainSettings(1.5, 9.0)
    with pytest.raises(ValueError, match="gain_range_db"):
        MixChainSettings(0.5, -1.0)
