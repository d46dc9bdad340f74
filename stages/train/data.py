"""What a training step sees, as a pure function of (seed, epoch, step, item): any number of workers gives the same."""

import contextlib
import itertools
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.objectives.base import UNTOUCHED, Objective
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.fxnorm import StemTargets, fx_normalise
from mixstyle.pipeline.mixing.mix_chain import MixChain, MixChainSettings, apply_mix_chain, draw_mix_chain

Key = tuple[int, int, int]
"""(epoch, step within the epoch, item within the batch), all from 0."""
Purpose = Literal["train", "validation"]
ROLES = 3
"""Clips of an item: anchor, positive, negative."""


@dataclass(frozen=True)
class Recipe:
    """How an item's three clips are made.

    objective: which clips, and which chains on them. normalise: what stems are brought to before that, if at all.
    style_effects: draw chains as styles of n effects, n between these two, and not by `remix`.
    """

    remix: MixChainSettings
    objective: Objective
    normalise: StemTargets | None = None
    style_effects: tuple[int, int] | None = None

    def draw(self, rng: np.random.Generator) -> MixChain:
        """What is done to a clip."""
        if self.style_effects is None:
            return draw_mix_chain(rng, self.remix)
        least, most = self.style_effects
        return draw_chain(rng, int(rng.integers(least, most + 1)))


@dataclass(frozen=True)
class Item:
    """One track's part of a batch.

    stems: [3, 4, 2, T], anchor, positive and negative. descriptors: [3, D]; a row of NaN is left to the device.
    remixes: what was done to each of the three.
    """

    track_id: str
    stems: Tensor
    descriptors: Tensor
    remixes: tuple[MixChain, MixChain, MixChain]


@dataclass(frozen=True)
class Batch:
    """Items of one step, stems [3 B, 4, 2, T] and descriptors [3 B, D]: all anchors, then positives, then negatives.

    remixes: of each item, of its anchor, positive and negative.
    """

    epoch: int
    step: int
    track_ids: tuple[str, ...]
    stems: Tensor
    descriptors: Tensor
    remixes: tuple[tuple[MixChain, MixChain, MixChain], ...]

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the batch."""
        return self.stems.shape[0] * self.stems.shape[-1] / SAMPLE_RATE


class Triplets(Dataset[Item]):
    """Anchor, positive and negative for any key; holds nothing but paths, offsets and the store's rows.

    tracks: those to draw from, each with two clips or more. rows: descriptors [n_rows, D] of the whole clips.
    clip_frames: samples used of each clip. describe_here: compute missing descriptors in the worker, else leave NaN.
    Raises MixstyleError where the tracks do not fill a batch.
    """

    def __init__(
        self,
        cache: StemCache,
        tracks: Sequence[CachedTrack],
        rows: np.ndarray,
        recipe: Recipe,
        *,
        seed: int,
        batch_size: int,
        clip_frames: int,
        describe_here: bool,
        purpose: Purpose = "train",
    ) -> None:
        self.cache, self.rows, self.recipe, self.seed = cache, rows, recipe, seed
        self.tracks = [track for track in tracks if len(track.clips) >= 2]
        if len(self.tracks) < batch_size:
            raise MixstyleError(
                f"train.batch_size={batch_size} is more than the {len(self.tracks)} {purpose} tracks that have two "
                "clips; give separate more music or lower it"
            )
        self.batch_size, self.clip_frames, self.describe_here = batch_size, clip_frames, describe_here
        # Validation draws from a stream of its own, the same in every epoch.
        self._stream = {"train": 0, "validation": 1}[purpose]
        self._permutation: tuple[tuple[int, int], np.ndarray] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of distinct tracks."""
        return len(self.tracks) // self.batch_size

    def track_of(self, key: Key) -> CachedTrack:
        """The track that an item draws from. Steps past an epoch's last start another round of all tracks."""
        return self.tracks[self._number(key)]

    def _number(self, key: Key) -> int:
        epoch, step, item = key
        turn, place = divmod(step, self.steps_per_epoch)
        if self._permutation is None or self._permutation[0] != (epoch, turn):
            rng = np.random.default_rng([self.seed, self._stream, 0, epoch, turn])
            self._permutation = (epoch, turn), rng.permutation(len(self.tracks))
        return int(self._permutation[1][place * self.batch_size + item])

    def __getitem__(self, key: Key) -> Item:
        with _one_thread():
            return self._made(key)

    def _made(self, key: Key) -> Item:
        objective = self.recipe.objective
        track, own = self.track_of(key), self._number(key)
        rng = np.random.default_rng([self.seed, self._stream, 1, *key])
        if objective.positive_from == "own-song":
            clips = [track.clips[int(i)] for i in rng.choice(len(track.clips), 2, replace=False)]
        else:
            other = self.tracks[(own + 1 + int(rng.integers(len(self.tracks) - 1))) % len(self.tracks)]
            clips = [source.clips[int(rng.integers(len(source.clips)))] for source in (track, other)]
        starts = [int(rng.integers(self._room + 1)) for _ in clips]
        anchor, positive = (self._read(clip, start) for clip, start in zip(clips, starts, strict=True))
        chains = objective.chains(_Draw(self, key, rng))
        made = [
            stems if chain == UNTOUCHED else apply_mix_chain(stems, chain)
            for stems, chain in zip((anchor, positive, anchor), chains, strict=True)
        ]
        rows = [clips[0].row, clips[1].row, clips[0].row]
        descriptors = torch.full((ROLES, self.rows.shape[1]), torch.nan)
        if self._room == 0 and self.recipe.normalise is None:
            for role, (row, chain) in enumerate(zip(rows, chains, strict=True)):
                if chain == UNTOUCHED:  # the store holds what describes the whole clip as it is
                    descriptors[role] = torch.from_numpy(self.rows[row])
        return self._item(track, torch.from_numpy(np.stack(made)), descriptors, chains)

    def chain_of(self, key: Key) -> MixChain:
        """The chain that belongs to an item's place, whoever asks."""
        return self.recipe.draw(np.random.default_rng([self.seed, self._stream, 2, *key]))

    @property
    def _room(self) -> int:
        """How many samples later than at its start a crop may begin."""
        return self.cache.clip_frames - self.clip_frames

    def _read(self, clip: CachedClip, start: int) -> np.ndarray:
        stems = self.cache.read_clip(clip, start, self.clip_frames)
        return stems if self.recipe.normalise is None else fx_normalise(stems, self.recipe.normalise)

    def _item(
        self, track: CachedTrack, stems: Tensor, descriptors: Tensor, remixes: tuple[MixChain, MixChain, MixChain]
    ) -> Item:
        missing = descriptors.isnan().any(1)
        if self.describe_here and missing.any():
            descriptors[missing] = describe(stems[missing])
        return Item(track.track_id, stems, descriptors, remixes)


@dataclass(frozen=True)
class _Draw:
    """What an objective draws an item's chains with."""

    data: Triplets
    key: Key
    rng: np.random.Generator

    @property
    def item(self) -> int:
        return self.key[2]

    @property
    def batch(self) -> int:
        return self.data.batch_size

    def fresh(self) -> MixChain:
        return self.data.recipe.draw(self.rng)

    def of_item(self, item: int) -> MixChain:
        return self.data.chain_of((*self.key[:2], item))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Sums as a worker process does, whose torch has one thread, so that no workers give the same bits as some."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _start_worker(_: int) -> None:
    """Ctrl-C is the main process's to handle: it saves, then ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def load_batches(
    dataset: Triplets, steps: Iterable[tuple[int, int]], workers: int, items: range | None = None
) -> Iterator[Batch]:
    """Batches of (epoch, step within it), in order. items: which of a batch's are wanted; None: all.

    A worker makes one item at a time and at most 4 wait for each, so memory is bounded by workers and not by batches.
    """
    wanted = items if items is not None else range(dataset.batch_size)
    if workers and dataset.describe_here:
        describe(torch.zeros(1, len(STEMS), 2, SAMPLE_RATE))  # loads and designs what forked workers then have
    mine, theirs = itertools.tee(steps)
    keys = ((epoch, step, item) for epoch, step in theirs for item in wanted)
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=_Keys(keys),
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_start_worker,
        # A fork shares the index of a large cache; workers use neither CUDA nor more than one thread.
        multiprocessing_context="fork" if workers else None,
    )
    made = iter(loader)
    for epoch, step in mine:
        yield _collate(epoch, step, list(itertools.islice(made, len(wanted))))


class _Keys(Sampler[Key]):
    """Hands on keys as they are made: a run of a million steps keeps no list of them."""

    def __init__(self, keys: Iterator[Key]) -> None:
        self._keys = keys

    def __iter__(self) -> Iterator[Key]:
        return self._keys


def _collate(epoch: int, step: int, items: Sequence[Item]) -> Batch:
    # [B, 3, ..] -> [3, B, ..] -> [3 B, ..]
    stems = torch.stack([item.stems for item in items]).transpose(0, 1).flatten(0, 1)
    descriptors = torch.stack([item.descriptors for item in items]).transpose(0, 1).flatten(0, 1)
    ids = tuple(item.track_id for item in items)
    return Batch(epoch, step, ids, stems, descriptors, tuple(item.remixes for item in items))
