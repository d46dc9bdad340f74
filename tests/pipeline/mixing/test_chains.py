"""Effect chains: the same effects in the same order on every stem, and the loudness that they set, by a meter."""

import dataclasses

import numpy as np
import pyloudnorm
import pytest
from helpers.small_cache import stems_of

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import STEM_LUFS, draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain


@pytest.mark.parametrize("effects", [1, 4, 12])
def test_every_stem_has_the_same_effects_in_the_same_order(effects: int) -> None:
    chain = draw_chain(np.random.default_rng(3), effects)
    assert chain == draw_chain(np.random.default_rng(3), effects)
    names = {tuple(effect.name for effect in own) for own in chain.stems}
    assert len(names) == 1
    assert len(set(names.pop())) == effects
    assert len({tuple(own[0].parameters.values()) for own in chain.stems}) == 4, "each with its own parameters"
    with pytest.raises(ValueError, match=rf"\b{len(EFFECTS)}\b.*\b{len(EFFECTS) + 1}\b"):
        draw_chain(np.random.default_rng(0), len(EFFECTS) + 1)


def test_chains_set_the_loudness_of_stems_and_mix() -> None:
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    stems = stems_of(3, 3.0)
    stems[1] = 0
    # a chain that does nothing shows what else is done
    nothing = dataclasses.replace(draw_chain(np.random.default_rng(1), 1), stems=((), (), (), ()))
    out = apply_mix_chain(stems, nothing)
    assert meter.integrated_loudness(out.sum(0).T.astype(np.float64)) == pytest.approx(-14, abs=0.05)  # LUFS
    assert not out[1].any(), "a silent stem stays silent"
    found = [meter.integrated_loudness(out[i].T.astype(np.float64)) for i in (0, 2, 3)]
    wanted = [nothing.stem_lufs[i] for i in (0, 2, 3)]
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), atol=0.05)  # LU: one gain is common to all
    assert all(STEM_LUFS[0] <= lufs <= STEM_LUFS[1] for lufs in nothing.stem_lufs)
