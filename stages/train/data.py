"""What a training step sees: items of three clips, made as a function of (seed, epoch, step, item) and their tracks.

Groups of clips out of a bank, which need nothing made, are items too (`mixstyle.stages.train.grid`). Which tracks
those are is a reader's to say (`mixstyle.stages.train.readers`); any number of workers gives the same.
"""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.encoder.objectives.base import UNTOUCHED, Chains, Objective
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.fxnorm import StemTargets, fx_normalise
from mixstyle.pipeline.mixing.mix_chain import MixChain, MixChainSettings, apply_mix_chain, draw_mix_chain
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.processes import leave_ctrl_c_to_parent, processes_here
from mixstyle.stages.common.shared_memory import as_made, collating
from mixstyle.stages.common.worker_errors import ErrorsAsItems, raised

Key = tuple[int, int, int]
"""(epoch, step within the epoch, item within the batch), all from 0."""
Purpose = Literal["train", "validation"]
AHEAD = 4
"""Items of a worker that wait."""
WORKER_NICENESS = 5
"""Of a loader's workers, added to that of the training: about a third of its weight."""
ROLES = 3
"""Clips of an item: anchor, positive, negative."""


@dataclass(frozen=True)
class Recipe:
    """How an item's three clips are made.

    objective: which clips, and which chains on them. normalise: what stems are brought to before that, if at all.
    chain_effects: draw effect chains of n effects, n between these two, and not by `remix`.
    """

    remix: MixChainSettings
    objective: Objective
    normalise: StemTargets | None = None
    chain_effects: tuple[int, int] | None = None

    def draw(self, rng: np.random.Generator) -> MixChain:
        """What is done to a clip."""
        if self.chain_effects is None:
            return draw_mix_chain(rng, self.remix)
        least, most = self.chain_effects
        return draw_chain(rng, int(rng.integers(least, most + 1)))


@dataclass(frozen=True)
class Request:
    """An item to be made.

    own: the anchor's track, by its place in `Items.tracks`. other: the track of a positive from another song; None
    draws it. flacs: FLAC files of the clips by their rows, where they were read already.
    """

    key: Key
    own: int
    other: int | None = None
    flacs: Mapping[int, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Item:
    """One track's part of a batch.

    stems: [3, 4, 2, T], anchor, positive and negative. descriptors: [3, D]; a row of NaN is left to the device.
    chains: what was done to each of the three.
    """

    track_id: str
    stems: Tensor
    descriptors: Tensor
    chains: Chains


@dataclass(frozen=True)
class Batch:
    """Items of one step, stems [R B, 4, 2, T] and descriptors [R B, D], role by role.

    The R = 3 roles are all anchors, then all positives, then all negatives; of groups out of a bank, the clips of the
    first slot, then of the second, and so on. chains: of each item, of its anchor, positive and negative. groups,
    contents: [R B], of a bank's clips: equal numbers belong together, and are the same music. parameters: [R B, P],
    what was done to a bank's clips as numbers, NaN where that is not told.
    """

    epoch: int
    step: int
    clip_frames: int
    track_ids: tuple[str, ...]
    stems: Tensor
    descriptors: Tensor
    chains: tuple[Chains, ...] = ()
    groups: Tensor | None = None
    contents: Tensor | None = None
    parameters: Tensor | None = None
    mels: Tensor | None = None
    """[R B, 8, n_mels, F], where they were kept; `stems` is then empty."""

    @property
    def audio_s(self) -> float:
        """Seconds of audio in the batch."""
        return self.descriptors.shape[0] * self.clip_frames / SAMPLE_RATE


class Items(Dataset[Item]):
    """Makes anchor, positive and negative of any request; holds only paths, offsets and the store's rows.

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
                "clips; separate more music, or lower it",
                code="bad-setting",
            )
        self.batch_size, self.clip_frames, self.describe_here = batch_size, clip_frames, describe_here
        # Validation draws from a stream of its own, the same in every epoch.
        self.stream = {"train": 0, "validation": 1}[purpose]

    @property
    def small(self) -> bool:
        """An item of three clips' stems has tens of megabytes."""
        return False

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of distinct tracks."""
        return len(self.tracks) // self.batch_size

    def __getitem__(self, request: Request) -> Item:
        with one_thread():
            return self._made(request)

    def chosen_clips(self, request: Request) -> list[CachedClip]:
        """The clips of the anchor and of the positive."""
        return self._choose(request)[1]

    def collate(self, epoch: int, step: int, items: Sequence[Item]) -> Batch:
        """Items of one step, put role by role."""
        stems = by_slot([item.stems for item in items])
        descriptors = by_slot([item.descriptors for item in items])
        ids = tuple(item.track_id for item in items)
        return Batch(epoch, step, self.clip_frames, ids, stems, descriptors, tuple(item.chains for item in items))

    def chain_of(self, key: Key) -> MixChain:
        """The chain that belongs to an item's place, the same for every caller."""
        return self.recipe.draw(np.random.default_rng([self.seed, self.stream, 2, *key]))

    def _choose(self, request: Request) -> tuple[np.random.Generator, list[CachedClip]]:
        """The item's generator, and what it draws first."""
        rng = np.random.default_rng([self.seed, self.stream, 1, *request.key])
        track, own, n = self.tracks[request.own], request.own, len(self.tracks)
        if self.recipe.objective.positive_from == "own-song":
            return rng, [track.clips[int(i)] for i in rng.choice(len(track.clips), 2, replace=False)]
        other = (own + 1 + int(rng.integers(n - 1))) % n if request.other is None else request.other
        return rng, [source.clips[int(rng.integers(len(source.clips)))] for source in (track, self.tracks[other])]

    def _made(self, request: Request) -> Item:
        rng, clips = self._choose(request)
        starts = [int(rng.integers(self._room + 1)) for _ in clips]
        anchor, positive = (self._read(clip, start, request) for clip, start in zip(clips, starts, strict=True))
        chains = self.recipe.objective.chains(_Draw(self, request.key, rng))
        made = [
            stems if chain == UNTOUCHED else apply_mix_chain(stems, chain)
            for stems, chain in zip((anchor, positive, anchor), chains, strict=True)
        ]
        stems = torch.from_numpy(np.stack(made))
        descriptors = torch.full((ROLES, self.rows.shape[1]), torch.nan)
        if self._room == 0 and self.recipe.normalise is None:
            for role, (clip, chain) in enumerate(zip((*clips, clips[0]), chains, strict=True)):
                if chain == UNTOUCHED:  # the store holds what describes the whole clip as it is
                    descriptors[role] = torch.from_numpy(self.rows[clip.row])
        missing = descriptors.isnan().any(1)
        if self.describe_here and missing.any():
            descriptors[missing] = describe(stems[missing])
        return Item(self.tracks[request.own].track_id, stems, descriptors, chains)

    @property
    def _room(self) -> int:
        """How many samples later than at its start a crop may begin."""
        return self.cache.clip_frames - self.clip_frames

    def _read(self, clip: CachedClip, start: int, request: Request) -> np.ndarray:
        flac = request.flacs.get(clip.row)
        if flac is None:
            stems = self.cache.read_clip(clip, start, self.clip_frames)
        else:
            stems = self.cache.decode(clip, flac, start, self.clip_frames)
        return stems if self.recipe.normalise is None else fx_normalise(stems, self.recipe.normalise)


@dataclass(frozen=True)
class _Draw:
    """What an objective draws an item's chains with."""

    data: Items
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
def one_thread() -> Iterator[None]:
    """Sums as a worker process does, whose torch has one thread, so that no workers give the same bits as some."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class Source(Protocol):
    """Makes the items of steps; a Dataset."""

    @property
    def batch_size(self) -> int:
        """Items of a step, on all ranks."""
        ...

    @property
    def describe_here(self) -> bool:
        """Whether missing descriptors are computed where items are made."""
        ...

    @property
    def small(self) -> bool:
        """Whether a whole batch of items may wait in memory beside the one that is in work."""
        ...

    def __getitem__(self, request: Request, /) -> Any: ...

    def collate(self, epoch: int, step: int, items: Sequence[Any]) -> Batch: ...


class Reader(Protocol):
    """Says which tracks each step is made of, in an order that is a function of the seed alone."""

    @property
    def data(self) -> Source:
        """Makes what the reader asks for."""
        ...

    def requests(self, steps: Iterable[tuple[int, int]], items: range) -> Iterator[Request]:
        """Requests for some items of each (epoch, step within it), in order."""
        ...


def load_batches(
    reader: Reader, steps: Iterable[tuple[int, int]], workers: int, items: range | None = None
) -> Iterator[Batch]:
    """Batches of (epoch, step within it), in order. items: which of a batch's are wanted; None: all.

    A worker makes one item at a time and at most 4 wait for each, so memory is bounded by workers and not by batches;
    of small ones a batch waits. Workers take what the training leaves of the cores.
    """
    dataset, workers = reader.data, processes_here(workers)
    wanted = items if items is not None else range(dataset.batch_size)
    ahead = max(AHEAD, -(-len(wanted) // max(workers, 1))) if dataset.small else AHEAD
    if workers and dataset.describe_here:
        describe(torch.zeros(1, len(STEMS), 2, SAMPLE_RATE))  # loads and designs what forked workers then have
    mine, theirs = itertools.tee(steps)
    loader = DataLoader(
        ErrorsAsItems(dataset),
        batch_size=None,
        sampler=_Requests(reader.requests(theirs, wanted)),
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        collate_fn=collating(as_made),
        worker_init_fn=_begin_worker,
        # A fork shares the index of a large cache; workers use neither CUDA nor more than one thread.
        multiprocessing_context="fork" if workers else None,
    )
    made = raised(loader, "train.workers")
    for epoch, step in mine:
        yield dataset.collate(epoch, step, list(itertools.islice(made, len(wanted))))


def _begin_worker(*_: object) -> None:
    leave_ctrl_c_to_parent()
    # a network that is trained on the same cores waits for all of its threads, so a worker that takes one of them
    # stops both; while the network waits for data, the workers have all cores to themselves
    os.nice(WORKER_NICENESS)


class _Requests(Sampler[Request]):
    """Hands on requests as they are made: a run of a million steps keeps no list of them."""

    def __init__(self, requests: Iterator[Request]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return self._requests


def by_slot(items: Sequence[Tensor]) -> Tensor:
    """B items [R, ...] as [R B, ...]: all first rows, then all second ones."""
    return torch.stack(list(items)).transpose(0, 1).flatten(0, 1)
