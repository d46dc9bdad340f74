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

from mixstyle.cache.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.descriptors import describe
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.remix import Remix, RemixSettings, apply_remix, sample_remix
from mixstyle.pipeline.stems import SAMPLE_RATE

Key = tuple[int, int, int]
"""(epoch, step within the epoch, item within the batch), all from 0."""
Purpose = Literal["train", "validation"]
ROLES = 3
"""Clips of an item: anchor, positive, negative."""


@dataclass(frozen=True)
class Item:
    """One track's part of a batch.

    stems: [3, 4, 2, T], anchor, positive and negative. descriptors: [3, D]; a row of NaN is left to the device.
    """

    track_id: str
    stems: Tensor
    descriptors: Tensor
    remix: Remix


@dataclass(frozen=True)
class Batch:
    """Items of one step, stems [3 B, 4, 2, T] and descriptors [3 B, D]: all anchors, then positives, then negatives."""

    epoch: int
    step: int
    track_ids: tuple[str, ...]
    stems: Tensor
    descriptors: Tensor
    remixes: tuple[Remix, ...]

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
        remix: RemixSettings,
        *,
        seed: int,
        batch_size: int,
        clip_frames: int,
        describe_here: bool,
        purpose: Purpose = "train",
    ) -> None:
        self.cache, self.rows, self.remix, self.seed = cache, rows, remix, seed
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
        epoch, step, item = key
        turn, place = divmod(step, self.steps_per_epoch)
        if self._permutation is None or self._permutation[0] != (epoch, turn):
            rng = np.random.default_rng([self.seed, self._stream, 0, epoch, turn])
            self._permutation = (epoch, turn), rng.permutation(len(self.tracks))
        return self.tracks[self._permutation[1][place * self.batch_size + item]]

    def __getitem__(self, key: Key) -> Item:
        track = self.track_of(key)
        rng = np.random.default_rng([self.seed, self._stream, 1, *key])
        chosen = rng.choice(len(track.clips), 2, replace=False)
        clips = [track.clips[int(i)] for i in chosen]
        room = self.cache.clip_frames - self.clip_frames
        starts = [int(rng.integers(room + 1)) for _ in clips]
        anchor, positive = (
            self.cache.read_clip(clip, start, self.clip_frames) for clip, start in zip(clips, starts, strict=True)
        )
        remix = sample_remix(rng, self.remix)
        stems = torch.from_numpy(np.stack([anchor, positive, apply_remix(anchor, remix)]))
        descriptors = torch.full((ROLES, self.rows.shape[1]), torch.nan)
        if room == 0:
            descriptors[:2] = torch.from_numpy(self.rows[[clip.row for clip in clips]])
        if self.describe_here:
            missing = descriptors.isnan().any(1)
            with _one_thread():
                descriptors[missing] = describe(stems[missing])
        return Item(track.track_id, stems, descriptors, remix)


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


def load_batches(dataset: Triplets, steps: Iterable[tuple[int, int]], workers: int) -> Iterator[Batch]:
    """Batches of (epoch, step within it), in order.

    A worker makes one item at a time and at most 4 wait for each, so memory is bounded by workers and not by batches.
    """
    mine, theirs = itertools.tee(steps)
    keys = ((epoch, step, item) for epoch, step in theirs for item in range(dataset.batch_size))
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
    items = iter(loader)
    for epoch, step in mine:
        yield _collate(epoch, step, list(itertools.islice(items, dataset.batch_size)))


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
    return Batch(epoch, step, ids, stems, descriptors, tuple(item.remix for item in items))
