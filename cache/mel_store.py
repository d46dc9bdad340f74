"""Log-mel spectrograms of a bank's clips, kept so that training need not make them again: a Zarr v3 group.

Layout, version 1 (dimension names in brackets; a row is a clip of the bank, as in the bank's feature store):

    mels     [row, channel, mel, frame] float16  a chunk a group of clips, with its CRC-32C; 0 where there is no clip
    done     [shard] int32                       written after everything else of a shard of the bank: one more than the
                                                 number of its groups; 0 where it is not done. Earlier stores: bool

Attributes of the group: `format`, `version` and `made_with` (the bank's fingerprint, the mel's settings, and the input
loudness). One process fills it; any number read. It holds nothing that cannot be made again.
"""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from mixstyle.cache.feature_store.damage import UNREADABLE
from mixstyle.cache.storage.atomic import drop_scratch, scratch_folder
from mixstyle.cache.storage.locks import is_guarded, turn
from mixstyle.pipeline.core.errors import MixstyleError, one_line

FORMAT = "mixstyle-mels"
VERSION = 1


class MelStore:
    """A store on disk; `MelStore.open_or_create` makes one or opens what is there."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._mels, self._done = (_array(path, group, name) for name in ("mels", "done"))

    @classmethod
    def open_or_create(
        cls,
        path: Path,
        made_with: Mapping[str, Any],
        *,
        rows: int,
        group_rows: int,
        shard_rows: int,
        mels: int,
        frames: int,
        channels: int = 8,
    ) -> "MelStore":
        """The store; an empty one where there is none, or where one was made with other things.

        rows: clips. group_rows: of a chunk. shard_rows: of a shard of the bank.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock")
        with turn(lock):  # two trainings may share the folder
            if (found := cls._made_before(path, made_with)) is not None:
                return found
            drop_scratch(path, alone=is_guarded(lock))
            with scratch_folder(path) as scratch:
                group = zarr.open_group(scratch, mode="w", zarr_format=3)
                group.attrs.update(_attributes(made_with))
                group.create_array(
                    "mels",
                    shape=(rows, channels, mels, frames),
                    chunks=(group_rows, channels, mels, frames),
                    dtype="float16",
                    fill_value=0.0,
                    dimension_names=("row", "channel", "mel", "frame"),
                    # lz4 reads faster than a disk; shuffled, float16 spectrograms shrink by about a fifth
                    compressors=[BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"), Crc32cCodec()],
                )
                shards = -(-rows // shard_rows)
                group.create_array(
                    "done",
                    shape=(shards,),
                    chunks=(1,),
                    dtype="int32",
                    fill_value=0,
                    dimension_names=("shard",),
                    attributes={"shard_rows": shard_rows},
                )
                scratch.rename(path)
            return cls(path, zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False))

    @classmethod
    def _made_before(cls, path: Path, made_with: Mapping[str, Any]) -> "MelStore | None":
        """What is there, where it is of the same; what is of other things is removed."""
        if not path.is_dir():
            return None
        try:
            group = zarr.open_group(path, mode="r+", zarr_format=3, use_consolidated=False)
            if dict(group.attrs) == _attributes(made_with):
                return cls(path, group)
        except (*UNREADABLE, MixstyleError):
            pass  # it holds nothing that cannot be made again
        shutil.rmtree(path)
        return None

    @classmethod
    def open(cls, path: Path) -> "MelStore":
        """A store that is there. Raises MixstyleError ("damaged-file") for what is none."""
        try:
            group = zarr.open_group(path, mode="r", zarr_format=3, use_consolidated=False)
            if group.attrs.get("format") == FORMAT:
                return cls(path, group)
        except UNREADABLE as error:
            raise _damaged(path, one_line(error)) from error
        raise _damaged(path, "its attributes are not those of such a store")

    def verify(self) -> None:
        """Reads all of it. Raises MixstyleError ("damaged-file") for data that is not what was written, or is gone.

        Shards are filled in their order: where one is marked, those before it were.
        """
        marks, rows = self._marks(), self._shard_rows
        latest = max(np.flatnonzero(marks), default=-1)
        for shard, mark in enumerate(marks if rows else ()):
            groups = self._groups(shard, rows)
            there = sum(self._chunk(group).is_file() for group in groups)
            if mark and there != mark - 1:
                raise _damaged(self.path, f"{mark - 1 - there} of the groups of shard {shard} are gone")
            if not mark and there and (shard < latest or there == len(groups)):
                raise _damaged(self.path, f"the mark that shard {shard} is done is gone")
        group_rows = self._mels.chunks[0]
        for first in range(0, self._mels.shape[0], group_rows):
            self._read(first, min(first + group_rows, self._mels.shape[0]))

    @property
    def done(self) -> NDArray[np.bool_]:
        """`[shard]`: which shards of the bank are in it. Raises MixstyleError ("damaged-file")."""
        return self._marks().astype(bool)

    def write_group(self, first_row: int, mels: NDArray[np.float16]) -> None:
        """The log-mels [n, 8, n_mels, frames] of a whole group, whose first clip has that row."""
        self._mels[first_row : first_row + len(mels)] = mels

    def finish_shard(self, shard: int) -> None:
        """Marks a shard of the bank done, whose groups are written."""
        rows = self._shard_rows
        self._done[shard] = 1 + sum(self._chunk(group).is_file() for group in self._groups(shard, rows)) if rows else 1

    def read(self, rows: Sequence[int]) -> NDArray[np.float16]:
        """Log-mels [n, 8, n_mels, frames] of rows that follow one another.

        Raises MixstyleError ("damaged-file"), naming the store, for data that is not what was written.
        """
        mels = self._read(rows[0], rows[-1] + 1)
        # no frame of a spectrogram is 0 everywhere: what is not there reads as that, and chunks are there or not
        if not mels[..., 0].any(axis=(1, 2)).all():
            raise _damaged(self.path, "a group of clips is gone")
        return mels

    @property
    def _shard_rows(self) -> int:
        """Clips of a shard of the bank; 0 where an earlier store does not tell."""
        rows = self._done.attrs.get("shard_rows", 0)
        return rows if isinstance(rows, int) and not isinstance(rows, bool) else 0

    def _marks(self) -> NDArray[Any]:
        try:
            return np.asarray(self._done[:])
        except UNREADABLE as error:
            raise _damaged(self.path, one_line(error)) from error

    def _groups(self, shard: int, shard_rows: int) -> range:
        """The chunks of a shard of the bank."""
        group_rows, last = self._mels.chunks[0], min((shard + 1) * shard_rows, self._mels.shape[0])
        return range(shard * shard_rows // group_rows, -(-last // group_rows))

    def _chunk(self, group: int) -> Path:
        return self.path.joinpath("mels", "c", str(group), "0", "0", "0")

    def _read(self, first: int, last: int) -> NDArray[np.float16]:
        try:
            return np.asarray(self._mels[first:last], np.float16)
        except UNREADABLE as error:
            raise _damaged(self.path, one_line(error)) from error


def _damaged(path: Path, what: str) -> MixstyleError:
    return MixstyleError(f"{path}: damaged ({what}); delete that folder, then", code="damaged-file", remedy=("train",))


def _attributes(made_with: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "version": VERSION, "made_with": dict(made_with)}


def _array(path: Path, group: zarr.Group, name: str) -> zarr.Array:
    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise MixstyleError(
            f"{path}: {name} is missing; delete that folder, then", code="damaged-file", remedy=("train",)
        )
    return array
