"""Effect chains: n effects in an order, that any song can be mixed with.

Two songs mixed with one effect chain share everything that the chain sets: the loudness that each stem is brought to,
the effects, their order and their parameters, and the loudness of the whole. What differs is the content. That is how
the field asks whether an embedding knows effects (Koo et al., ICASSP 2023; Yeh et al., "Fx-Encoder++", ISMIR 2025).
"""

import numpy as np

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain

STEM_LUFS = (-18.0, -14.0)
"""Stems are brought to a loudness drawn from between these before their effects."""
MIX_LUFS = -14.0
"""And the mix to this one after them."""


def draw_chain(rng: np.random.Generator, effects: int) -> MixChain:
    """An effect chain of that many different effects, on every stem the same in the same order, with own parameters.

    Of 0 effects, it draws the loudness of the stems alone. Raises ValueError for more effects than there are, and for
    fewer than 0.
    """
    if not 0 <= effects <= len(EFFECTS):
        raise ValueError(f"an effect chain has 0 to {len(EFFECTS)} effects, not {effects}")
    names = [list(EFFECTS)[i] for i in rng.permutation(len(EFFECTS))[:effects]]
    lufs = tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS)))
    chains = tuple(
        tuple(Effect(name, {key: p.draw(rng) for key, p in EFFECTS[name].parameters.items()}) for name in names)
        for _ in STEMS
    )
    return MixChain(chains, stem_lufs=lufs, mix_lufs=MIX_LUFS)
