"""The baseline of whitened descriptors: what a closed form makes of them, fitted on chains on training songs.

No song that is evaluated is among them. There are two maps, one for stems that went through a mix and for music as it
is, and one for stems as processed: each kind of clips is told by a map that was fitted on its own kind.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.whitening import within_group_whitening
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.stages.common.progress import remark
from mixstyle.stages.evaluate.clips import Clips
from mixstyle.stages.evaluate.tasks.metrics import WHITENED, Values
from mixstyle.stages.evaluate.tasks.task import Cut, Embeddings, Item, Part
from mixstyle.stages.evaluate.tasks.variants import Way
from mixstyle.stages.settings.evaluate import EvaluateSettings

CONTENTS = 4
"""Songs under each chain."""
MOST_EFFECTS = 8
LEAST_SONGS = 8
"""Training songs below which a scatter within chains says little."""


@dataclass(frozen=True)
class Whitening:
    """y = ((x - center) / scale - mean) matrix, for descriptors x [N, D]: z-scored, then whitened within chains."""

    center: Values
    scale: Values
    mean: Values
    matrix: Values

    @classmethod
    def fitted(cls, x: Embeddings, chains: NDArray[np.integer]) -> "Whitening":
        """On descriptors [N, D] of clips under chains [N]; a constant descriptor stays 0."""
        values = np.asarray(x, np.float64)
        center, scale = values.mean(0), values.std(0)
        scale = np.where(scale > 0, scale, 1.0)
        return cls(center, scale, *within_group_whitening((values - center) / scale, chains))

    def __call__(self, x: Embeddings) -> Embeddings:
        told = ((np.asarray(x, np.float64) - self.center) / self.scale - self.mean) @ self.matrix
        return told.astype(np.float32)


@dataclass(frozen=True)
class WhitenedRow:
    """Descriptors, whitened within chains. maps: by what is between stems and embedding."""

    maps: Mapping[Way, Whitening]
    name: str = WHITENED

    def of(self, clips: Clips) -> Tensor:
        """Whitened descriptors [B, D]. Music as it is was separated, as what went through a mix was."""
        told = self.maps["through-mix" if clips.way == "as-is" else clips.way]
        return torch.from_numpy(told(clips.descriptors.cpu().numpy()))


@dataclass(frozen=True)
class TrainingSongs:
    """Songs that are for training, none of which is evaluated, and the stems that they are of."""

    cache: StemCache
    songs: Sequence[CachedTrack]


def training_songs(cache: StemCache, evaluated: Sequence[CachedTrack]) -> TrainingSongs:
    """The training songs of some stems, without those that are evaluated."""
    known = {song.track_id for song in evaluated}
    return TrainingSongs(cache, [s for s in cache.tracks if s.split == "train" and s.track_id not in known])


def whitening_part(training: TrainingSongs, options: EvaluateSettings, way: Way) -> Part:
    """Chains of 1 to 8 effects, each on clips of `CONTENTS` different training songs, chain by chain."""
    cut = Cut(training.cache.clip_frames, round(options.clip_s * SAMPLE_RATE))
    items: list[Item] = []
    for i in range(options.whitening_chains):
        rng = np.random.default_rng([options.seed, 11, i])
        chain = draw_chain(rng, int(rng.integers(1, min(MOST_EFFECTS, len(EFFECTS)) + 1)))
        for place in rng.choice(len(training.songs), CONTENTS, replace=False):
            clips = training.songs[int(place)].clips
            items.append(cut.drawn(rng, clips[int(rng.integers(len(clips)))], chain))
    name = "whitening" if way == "through-mix" else "stems_whitening"
    return Part(name, tuple(i // CONTENTS for i in range(len(items))), lambda: tuple(items), way)


def whitened_row(
    training: TrainingSongs, options: EvaluateSettings, ways: Sequence[Way], describe: Callable[[Part], Embeddings]
) -> WhitenedRow | None:
    """The row, fitted; None, with a line that says why, where there are too few training songs.

    ways: for which maps are needed. describe: the descriptors of a part's clips.
    """
    if not options.whitening_chains:
        return None
    if len(training.songs) < LEAST_SONGS:
        remark(
            f"evaluate: {WHITENED} are left out: {training.cache.stems_dir} has {len(training.songs)} training songs, "
            f"and {LEAST_SONGS} are needed to fit them (evaluate.training_stems_dir names other stems)"
        )
        return None
    maps: dict[Way, Whitening] = {}
    for way in ways:
        part = whitening_part(training, options, way)
        maps[way] = Whitening.fitted(describe(part), np.array(part.songs))
    return WhitenedRow(maps)
