"""Effects of a stem, block by block, are the registry's; they come back from JSON, and only within their bounds."""

import math
from itertools import pairwise

import numpy as np
import pytest
from helpers.desk_songs import RATE

from mixstyle.pipeline.matching.desk import Strip
from mixstyle.pipeline.matching.inserts import INSERTS, InsertRunner, insert_levels, run_inserts, weaker
from mixstyle.pipeline.matching.render import SongRunner, strip_levels
from mixstyle.pipeline.mixing.effects import EFFECTS, rms
from mixstyle.pipeline.mixing.mix_chain import Effect

RNG = np.random.default_rng(2)
LOUDER = np.linspace(0.1, 1, 30_000)
CLIP = (0.2 * RNG.standard_normal((2, 30_000)) * LOUDER).astype(np.float32)


def drawn(name: str, seed: int = 0) -> Effect:
    rng = np.random.default_rng(seed)
    return Effect(name, {key: parameter.draw(rng) for key, parameter in EFFECTS[name].parameters.items()})


def in_blocks(inserts: list[Effect], audio: np.ndarray) -> np.ndarray:
    runner = InsertRunner(inserts, insert_levels(inserts, [audio]))
    edges = [0, 700, 701, 9_000, 29_000, audio.shape[1]]  # longer ones after shorter ones
    return np.concatenate([runner.run(audio[:, a:b]) for a, b in pairwise(edges)], 1)


@pytest.mark.parametrize("name", INSERTS)
def test_blocks_are_what_the_registry_makes_of_all(name: str) -> None:
    effect = drawn(name)
    expected = EFFECTS[name].process(CLIP, effect.parameters, RATE)
    assert np.abs(expected - CLIP).max() > 0.03
    np.testing.assert_allclose(in_blocks([effect], CLIP), expected, atol=1e-6)  # float32 of samples below 1
    np.testing.assert_allclose(run_inserts([effect], [CLIP])[1][0], expected, atol=1e-6)


def test_effects_in_a_row_and_their_level() -> None:
    effects = [drawn(name) for name in INSERTS]
    expected = CLIP
    for effect in effects:
        expected = EFFECTS[effect.name].process(expected, effect.parameters, RATE)
    # each of the four gives the level back by a factor in float32: 4 x 2^-24 of samples below 1 is 2.4e-7
    np.testing.assert_allclose(in_blocks(effects, CLIP), expected, atol=1e-6)
    # of several clips the level is that of all: a quiet one stays quieter
    quiet = CLIP * np.float32(0.1)
    levels, made = run_inserts([drawn("compression")], [CLIP, quiet])
    assert levels[0].before == pytest.approx(math.sqrt((rms(CLIP) ** 2 + rms(quiet) ** 2) / 2))
    assert math.sqrt((rms(made[0]) ** 2 + rms(made[1]) ** 2) / 2) == pytest.approx(levels[0].before, rel=1e-5)
    silence = np.zeros((2, 2000), np.float32)
    assert not in_blocks([drawn("limiter"), drawn("saturation")], np.zeros_like(CLIP)).any()
    assert run_inserts([drawn("compression")], [silence])[1][0].shape == silence.shape


def test_a_song_keeps_its_reverb_after_its_end() -> None:
    effect = Effect("reverb", {"room_size": 0.8, "damping": 0.2, "wet_level": 0.3, "width": 1.0})
    strips = (Strip(inserts=(effect,)), Strip(), Strip(), Strip())
    stems = np.zeros((4, 2, 20_000), np.float32)
    stems[0] = CLIP[:, :20_000]
    runner = SongRunner(strips, levels=strip_levels(strips, [stems]))
    blocks = [stems[..., a : a + 6_000] for a in range(0, 20_000, 6_000)]
    parts = [runner.run(block.sum(0), block)[0] for block in blocks]
    tail = np.concatenate([mix for mix, _ in runner.tail()], 1)
    long = np.concatenate([stems[0], np.zeros((2, 15 * RATE), np.float32)], 1)
    expected = EFFECTS["reverb"].process(long, effect.parameters, RATE)
    found = np.concatenate([*parts, tail], 1)
    np.testing.assert_allclose(found, expected[:, : found.shape[1]], atol=1e-6)  # float32 of samples below 1
    assert tail.shape[1] > RATE
    assert np.abs(expected[:, found.shape[1] :]).max() < 2e-5  # -94 dBFS: a tail ends below -100


def test_strips_with_effects_come_back_from_json() -> None:
    strip = Strip(gain_db=1.0, inserts=tuple(drawn(name) for name in INSERTS))
    assert Strip.from_json(strip.to_json()) == strip
    assert strip.without_stereo().inserts == strip.inserts[:3]
    old = {key: value for key, value in Strip(gain_db=1.0).to_json().items() if key != "effects"}
    assert Strip.from_json(old) == Strip(gain_db=1.0)
    good = strip.to_json()
    compression = good["effects"][0]
    for bad in (
        [{**compression, "ratio": 99.0}],
        [{**compression, "ratio": math.nan}],
        [{**compression, "knee_db": 3.0}],
        [{"name": "compression"}],
        [{"name": "delay", **drawn("delay").parameters}],
        [compression, compression],
    ):
        with pytest.raises(ValueError):
            Strip.from_json({**good, "effects": bad})
    with pytest.raises(ValueError):
        SongRunner((strip,) * 4)  # their levels are not known


def test_less_of_an_effect_does_less() -> None:
    for name in INSERTS:
        effect = drawn(name, seed=1)
        changes = [np.abs(in_blocks([weaker(effect, amount)], CLIP) - CLIP).mean() for amount in (0.0, 0.5, 1.0)]
        assert changes == sorted(changes)
        assert weaker(effect, 1.0) == effect
