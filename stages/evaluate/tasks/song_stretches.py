"""Songs that are mixed as a whole: several stretches of one, with gains of its stems that all of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.cache.stem_store.stem_cache import CachedClip, StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.absent_stems import is_present
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.task import Audio, Cut, Item

Stretch = tuple[CachedClip, int, int]
"""A clip, the frame in it that the stretch begins with, and its frames."""


@dataclass(frozen=True)
class LevelledStretch:
    """A stretch of a song whose stems have the loudnesses `stem_lufs` over all of the song's stretches.

    A mix moves a fader once for a song. So a stem's gain is one for all stretches, and where the stem plays softly, it
    stays soft. place: of this stretch among them.
    """

    cache: StemCache = field(repr=False)
    stretches: tuple[Stretch, ...]
    place: int
    stem_lufs: tuple[float, ...]

    def read(self) -> Audio:
        """Stems [4, 2, frames]. Raises MixstyleError for damaged clips, by name."""
        gains_db = np.array(self.stem_lufs) - _loudness(self)
        clip, start, frames = self.stretches[self.place]
        factors = 10 ** (np.nan_to_num(gains_db, nan=0.0) / 20)
        return self.cache.read_clip(clip, start, frames) * factors[:, None, None].astype(np.float32)

    def to_json(self) -> Mapping[str, Any]:
        """Which stretches, and their stems' loudness."""
        stretches = [[clip.clip_id, start, frames] for clip, start, frames in self.stretches]
        return {"stretches": stretches, "place": self.place, "stem_lufs": list(self.stem_lufs)}


@lru_cache(maxsize=8)
def _measured(cache: StemCache, stretches: tuple[Stretch, ...]) -> NDArray[np.float64]:
    """[4] in LUFS over the stretches in one; NaN for a stem that is absent, which keeps its level."""
    joined = torch.from_numpy(np.concatenate([cache.read_clip(*stretch) for stretch in stretches], -1))
    *found, whole = integrated_loudness(torch.cat([joined, joined.sum(0, keepdim=True)]), SAMPLE_RATE).tolist()
    return np.where(is_present(np.array(found), whole), found, np.nan)


def _loudness(stretch: LevelledStretch) -> NDArray[np.float64]:
    return _measured(stretch.cache, stretch.stretches)


def mixed_song(
    cache: StemCache, clips: Sequence[CachedClip], chain: MixChain, stretches: int, cut: Cut, rng: np.random.Generator
) -> list[Item]:
    """That many stretches of a song, mixed with one chain: of different clips, as far as the song has them.

    The chain's loudnesses of stems hold for the song; that of the mix holds for each stretch, which is what embedding
    one does anyway.
    """
    order = [int(i) for i in rng.permutation(len(clips))]
    frames = min(cut.frames, cut.cached)
    chosen = tuple(
        (clips[order[i % len(order)]], int(rng.integers(cut.cached - frames + 1)), frames) for i in range(stretches)
    )
    effects = replace(chain, stem_lufs=())
    return [
        Item(LevelledStretch(cache, chosen, place, chain.stem_lufs), (effects,), 0, frames)
        for place in range(stretches)
    ]
