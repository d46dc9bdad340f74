"""Parameters: told from embeddings that hold them, and not from noise."""

import numpy as np
from helpers.evaluation import songs_without_audio

from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.parameters import parameters, parameters_of
from mixstyle.stages.evaluate.tasks.task import Cut


def test_parameters_are_told_from_what_holds_them() -> None:
    part = parameters(songs_without_audio(), Cut(1000, 400), 40, 0, "parameters", "through-mix")
    rng = np.random.default_rng(0)
    known = np.zeros((len(part), 12), np.float32)
    for row, item in enumerate(part.items):
        (chain,) = item.steps
        assert isinstance(chain, MixChain)
        (effect,) = chain.mix
        values = [EFFECTS[effect.name].parameters[key].normalised(v) for key, v in effect.parameters.items()]
        known[row, : len(values)] = values
    known[:, -1] = 10  # unit length keeps the rest linear, nearly
    found = parameters_of(known, part, "x")
    assert set(found) == {f"{name}.{key}" for name, spec in EFFECTS.items() for key in spec.parameters}
    assert min(entry["r2"] for entry in found.values()) > 0.95
    assert min(entry["spearman"] for entry in found.values()) > 0.95
    noise = parameters_of(rng.standard_normal(known.shape).astype(np.float32), part, "x")
    # out of fold, the mean of the others leans away from what is left out: below 0, not around it
    assert np.mean([entry["spearman"] for entry in noise.values()]) < 0.15
    assert np.mean([entry["r2"] for entry in noise.values()]) < 0.05
