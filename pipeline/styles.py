"""Mixing styles for evaluation: ordered chains of n effects that any song can be mixed with.

Two songs mixed with one style share everything that the style sets: the loudness that each stem is brought to, the
effects, their order and their parameters, and the loudness of the whole. What differs is the content. That is how the
field asks whether an embedding knows effects (Koo et al., ICASSP 2023; Yeh et al., "Fx-Encoder++", ISMIR 2025).
"""

from dataclasses import dataclass

import numpy as np
import torch

from mixstyle.pipeline.effects import EFFECTS
from mixstyle.pipeline.loudness import LOUDNESS_FLOOR_LUFS, integrated_loudness
from mixstyle.pipeline.remix import Effect, Remix, apply_remix
from mixstyle.pipeline.stems import SAMPLE_RATE, STEMS

STEM_LUFS = (-18.0, -14.0)
"""Stems are brought to a loudness drawn from between these before their effects."""
MIX_LUFS = -14.0
"""And the mix to this one after them."""
MOST_GAIN_DB = 60.0


@dataclass(frozen=True)
class Style:
    """stem_lufs: of each stem, before its effects. remix: the same effects in the same order on every stem, each with
    parameters of its own."""

    stem_lufs: tuple[float, ...]
    remix: Remix

    @property
    def effects(self) -> tuple[str, ...]:
        """Names of the chain, in order."""
        return tuple(effect.name for effect in self.remix.stems[0])


def draw_style(rng: np.random.Generator, effects: int) -> Style:
    """A style of that many different effects. Raises ValueError for more than there are, and for fewer than 1."""
    if not 1 <= effects <= len(EFFECTS):
        raise ValueError(f"a style has 1 to {len(EFFECTS)} effects, not {effects}")
    names = [list(EFFECTS)[i] for i in rng.permutation(len(EFFECTS))[:effects]]
    lufs = tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS)))
    chains = tuple(
        tuple(Effect(name, {key: p.draw(rng) for key, p in EFFECTS[name].parameters.items()}) for name in names)
        for _ in STEMS
    )
    return Style(lufs, Remix(chains))


def apply_style(stems: np.ndarray, style: Style, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Stems float32 [4, 2, T] mixed in that style, as long as they were; a silent stem stays silent.

    Raises ValueError as `apply_remix` does, and for less than 400 ms.
    """
    found = _loudness(stems, sample_rate)
    # A stem that is not there is what a separator left of others: raised to full loudness it would be an instrument.
    present = (found > LOUDNESS_FLOOR_LUFS) & (found > found.max() - MOST_GAIN_DB / 2)
    gains_db = np.where(present, np.array(style.stem_lufs) - found, 0.0)
    levelled = stems * (10 ** (gains_db / 20))[:, None, None].astype(np.float32)
    mixed = apply_remix(levelled, style.remix, sample_rate)
    whole = float(_loudness(mixed.sum(0, keepdims=True), sample_rate)[0])
    if whole <= LOUDNESS_FLOOR_LUFS:
        return mixed
    return mixed * np.float32(10 ** (np.clip(MIX_LUFS - whole, -MOST_GAIN_DB, MOST_GAIN_DB) / 20))


def _loudness(stems: np.ndarray, sample_rate: int) -> np.ndarray:
    """[n] in LUFS of [n, 2, T]."""
    audio = torch.from_numpy(np.ascontiguousarray(stems, np.float32))
    return integrated_loudness(audio, sample_rate).numpy().astype(np.float64)
