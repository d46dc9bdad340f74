"""Made stems that differ as a song's do, and the same through strips that are known."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import Filter, Strip
from mixstyle.pipeline.matching.render import SongRunner

RATE = 44_100
KNOWN = (
    Strip((Filter("high shelf", 6000.0, 3.0),), gain_db=-2.0),
    Strip((Filter("low shelf", 120.0, 4.0),), gain_db=3.0),
    Strip((Filter("bell", 1000.0, -4.0, 1.4), Filter("high shelf", 8000.0, 2.5)), pan_percent=10.0),
    Strip(pan_percent=-12.0, side_db=(0.0, 3.0, 3.0), gain_db=-1.0),
)
"""A strip for each stem."""
_SLOPES_DB = (-4.0, -6.0, -3.0, -4.5)
_SIDES = (0.2, 0.1, 0.4, 0.6)
_LEVELS = (0.08, 0.1, 0.07, 0.06)


def stems_of(seed: int = 0, seconds: float = 3.0) -> Tensor:
    """[4, 2, T]: noise, each stem with a slope in dB per octave, a width and a level of its own."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * RATE)
    hz = np.maximum(np.fft.rfftfreq(samples, 1 / RATE), 20.0)
    found = []
    for slope_db, side, level in zip(_SLOPES_DB, _SIDES, _LEVELS, strict=True):
        shape = (hz / 1000) ** (slope_db / 6.02)
        m, s = (np.fft.irfft(np.fft.rfft(rng.standard_normal(samples)) * shape, samples) for _ in range(2))
        pair = np.stack([m + side * s, m - side * s])
        found.append(level * pair / np.sqrt(np.mean(pair**2)))
    return torch.from_numpy(np.stack(found).astype(np.float32))


def through(stems: Tensor, strips: Sequence[Strip] = KNOWN) -> Tensor:
    """The stems as strips make them; tails are cut."""
    made = SongRunner(strips).run(stems.sum(0).numpy(), stems.numpy())[1]
    assert len(made) == len(STEMS)
    return torch.from_numpy(made)
