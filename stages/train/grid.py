"""Batches out of a bank of `mixstyle remix`: whole blocks of groups, of which nothing has to be rendered.

A track of the bank is a group: one chain on several contents, or a song's own mix on several of its clips. Groups whose
paths differ in their last part alone are a block: several chains on the same contents. Batches are whole blocks, so
every clip meets its own music under another chain.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.chain_head import group_parameters
from mixstyle.pipeline.encoder.levels import gains_db, levelled_descriptors
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.pipeline.mixing.mix_grid import parse_group_path
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.train.data import Batch, Purpose, Request, by_slot, one_thread
from mixstyle.stages.train.readers import Position

OWN = "own"
"""The first part of the paths of groups that are a song's own mix: each of their clips is other music."""
TRAIN, VALIDATION = 0, 1
"""Numbers of the two uses, for what is drawn."""


@dataclass(frozen=True)
class GroupItem:
    """A group's part of a batch: M clips, as stems [M, 4, 2, T] or as log-mels [M, 8, n_mels, F], and descriptors.

    group: the group's number. contents: [M], numbers of the music. parameters: [P], of its chain.
    """

    track_id: str
    stems: Tensor
    mels: Tensor | None
    descriptors: Tensor
    group: int
    contents: Tensor
    parameters: Tensor


class BankItems(Dataset[GroupItem]):
    """Makes the groups of a bank ready for training; any number of workers gives the same.

    rows: descriptors [n_rows, D] of the bank's clips. mels: log-mels that were kept, of clips at the loudness
    input_lufs (None: as they were); without them stems are read, as they were. batch_size: groups in a batch. Raises
    MixstyleError where that is no multiple of the groups in a block, and where there are not enough groups.
    """

    def __init__(
        self,
        cache: StemCache,
        split: str,
        rows: np.ndarray,
        *,
        seed: int,
        batch_size: int,
        clip_frames: int,
        describe_here: bool,
        input_lufs: float | None = None,
        mels: MelStore | None = None,
        purpose: Purpose = "train",
    ) -> None:
        self.cache, self.rows, self.seed, self.mels, self.input_lufs = cache, rows, seed, mels, input_lufs
        self.clip_frames, self.describe_here = clip_frames, describe_here
        self.blocks = blocks_of(cache, split)
        self.block_groups = len(self.blocks[0]) if self.blocks else 1
        self.tracks = [track for block in self.blocks for track in block]
        self.stream = {"train": TRAIN, "validation": VALIDATION}[purpose]
        if purpose == "validation":  # as many as there are; at least one block
            batch_size = max(min(batch_size, len(self.tracks)) // self.block_groups, 1) * self.block_groups
        if batch_size % self.block_groups:
            raise MixstyleError(
                f"train.batch_size={batch_size} should be a multiple of {self.block_groups}, the groups in a block of "
                f"{cache.stems_dir}",
                code="bad-setting",
            )
        if not self.tracks and split == "train":
            raise MixstyleError(
                f"{cache.stems_dir}: no group is for training: fewer of the cached songs are in that split than a "
                "block takes (remix.contents); separate more music, or set separate.validation_fraction and "
                "separate.test_fraction lower, then",
                code="misfit",
                remedy=("separate", "--rebuild-stale"),
            )
        if len(self.tracks) < batch_size:
            raise MixstyleError(
                f"train.batch_size={batch_size} is more than the {len(self.tracks)} {split} groups of "
                f"{cache.stems_dir}; lower it or make a larger bank",
                code="bad-setting",
            )
        self.batch_size = batch_size

    @property
    def small(self) -> bool:
        """Spectrograms of a group have a tenth of what its stems have."""
        return self.mels is not None

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of distinct blocks."""
        return len(self.tracks) // self.batch_size

    @property
    def slots(self) -> int:
        """Clips of a group."""
        return self.cache.clips_per_track

    @cached_property
    def song_ids(self) -> set[str]:
        """Ids of the songs whose stems are in the groups, by the record that the bank keeps."""
        donors = (self.cache.read_metadata(track)["donors"] for track in self.tracks)
        return {clip_id.rpartition("_")[0] for slots in donors for clip_ids in slots for clip_id in clip_ids}

    def __getitem__(self, request: Request) -> GroupItem:
        with one_thread():
            return self._made(request)

    def collate(self, epoch: int, step: int, items: Sequence[GroupItem]) -> Batch:
        """Groups of one step, put slot by slot."""
        groups = torch.tensor([item.group for item in items]).repeat(self.slots)
        parameters = torch.stack([item.parameters for item in items]).repeat(self.slots, 1)
        mels = [item.mels for item in items if item.mels is not None]
        return Batch(
            epoch,
            step,
            self.clip_frames,
            tuple(item.track_id for item in items),
            torch.empty(0) if mels else by_slot([item.stems for item in items]),
            by_slot([item.descriptors for item in items]),
            groups=groups,
            contents=by_slot([item.contents for item in items]),
            parameters=parameters,
            mels=by_slot(mels) if mels else None,
        )

    def _made(self, request: Request) -> GroupItem:
        track = self.tracks[request.own]
        rows = [clip.row for clip in track.clips]
        descriptors = torch.from_numpy(self.rows[rows])
        record = self.cache.read_metadata(track)
        chain = None if record["kind"] == OWN else MixChain.from_json(record["chain"])
        stems, mels = torch.empty(0), None
        if self.mels is not None:
            mels = self._window(torch.from_numpy(self.mels.read(rows)), request)
            if self.input_lufs is not None:
                descriptors = levelled_descriptors(descriptors, gains_db(descriptors, self.input_lufs))
        else:
            stems, descriptors = self._cropped(track, request, descriptors)
        parameters = torch.from_numpy(group_parameters(chain))
        return GroupItem(
            track.track_id, stems, mels, descriptors, track.index, torch.tensor(contents_of(track)), parameters
        )

    def _window(self, mels: Tensor, request: Request) -> Tensor:
        """As many frames as a crop has, at a place that is drawn for each clip; whole clips where validation watches.

        Descriptors stay those of the whole clip, as nothing is there to describe a part of it with.
        """
        frames = mels.shape[-1]
        wanted = frames - (self.cache.clip_frames - self.clip_frames) * (frames - 1) // self.cache.clip_frames
        if self.stream == VALIDATION or wanted >= frames:
            return mels
        rng = np.random.default_rng([self.seed, self.stream, 1, *request.key])
        starts = rng.integers(frames - wanted + 1, size=len(mels))
        return torch.stack([mel[..., start : start + wanted] for mel, start in zip(mels, starts, strict=True)])

    def _cropped(self, track: CachedTrack, request: Request, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Stems, and their descriptors: those of whole clips where no crop is taken."""
        room = self.cache.clip_frames - self.clip_frames
        rng = np.random.default_rng([self.seed, self.stream, 1, *request.key])
        starts = [int(rng.integers(room + 1)) for _ in track.clips]
        flacs = [request.flacs.get(clip.row) for clip in track.clips]
        stems = torch.from_numpy(
            np.stack(
                [
                    self.cache.read_clip(clip, start, self.clip_frames)
                    if flac is None
                    else self.cache.decode(clip, flac, start, self.clip_frames)
                    for clip, start, flac in zip(track.clips, starts, flacs, strict=True)
                ]
            )
        )
        if room == 0:
            return stems, whole
        return stems, describe(stems) if self.describe_here else torch.full_like(whole, torch.nan)


class BlockReader:
    """Every step takes whole blocks: their order is a permutation an epoch, and any step is found at once."""

    def __init__(self, data: BankItems) -> None:
        self.data = data
        self._permutation: tuple[tuple[int, int], np.ndarray] | None = None

    def request(self, key: tuple[int, int, int]) -> Request:
        """The request for one group of a step."""
        epoch, step, item = key
        data = self.data
        # Steps past an epoch's last start another turn of all blocks.
        turn, place = divmod(step, data.steps_per_epoch)
        if self._permutation is None or self._permutation[0] != (epoch, turn):
            rng = np.random.default_rng([data.seed, data.stream, 0, epoch, turn])
            self._permutation = (epoch, turn), rng.permutation(len(data.blocks))
        block, within = divmod(item, data.block_groups)
        blocks_a_step = data.batch_size // data.block_groups
        chosen = int(self._permutation[1][place * blocks_a_step + block])
        return Request(key, chosen * data.block_groups + within)

    def requests(self, steps: Iterable[tuple[int, int]], items: range) -> Iterator[Request]:
        return (self.request((epoch, step, item)) for epoch, step in steps for item in items)

    def positions(self, epoch: int, steps: int) -> list[Position]:
        """Nothing has to be kept: the step alone says where the reader is."""
        return []


def blocks_of(cache: StemCache, split: str) -> list[list[CachedTrack]]:
    """The bank's blocks of a split, each with all its groups and each of those with all its clips.

    Blocks that lack something are left out; of blocks of several sizes, those of the most common one stay.
    """
    found: dict[str, list[CachedTrack]] = {}
    for track in cache.tracks:
        if track.split == split and len(track.clips) == cache.clips_per_track:
            found.setdefault(track.path.rpartition("/")[0], []).append(track)
    sizes = [len(block) for block in found.values()]
    most = max(set(sizes), key=lambda size: (sizes.count(size), size), default=0)
    return [block for block in found.values() if len(block) == most]


def contents_of(track: CachedTrack) -> list[int]:
    """A number for the music of each of a group's clips, the same in all groups of a block; each its own in own mixes.

    >>> contents_of(CachedTrack("", "chain/000002/1", "train", 9, 0, (1, 2), (0, 0)))
    [4, 5]
    """
    kind, block, _ = parse_group_path(track.path)
    clips = len(track.clips)
    if kind == OWN:
        return [-(track.index * clips + slot) - 1 for slot in range(clips)]
    return [block * clips + slot for slot in range(clips)]
