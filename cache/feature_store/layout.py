"""How a descriptor store is laid out: its arrays, their chunks and codecs, and what goes into its rows."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, Crc32cCodec

from mixstyle.cache.feature_store.names import KEYS

KEY_CHUNK_ROWS = 65_536
"""Rows in a chunk of what the manifest knows: few files, since one process writes them once."""


@dataclass(frozen=True)
class RowKeys:
    """What the manifest knows of every row, in the order of the rows: four lists of the same length."""

    clip_id: Sequence[str]
    track_id: Sequence[str]
    path: Sequence[str]
    split: Sequence[str]


@dataclass(frozen=True)
class ShardRows:
    """The rows of one shard, n of them, in order."""

    values: NDArray[np.float32]
    """[n, D]; NaN for clips that failed."""
    start_s: NDArray[np.float64]
    """[n]; NaN where unknown."""
    reason: Sequence[str]
    """Why a row is NaN; empty where it is not."""
    shard_sha256: str
    """Hash of the stem shard that the rows come from."""


def allocate(group: zarr.Group, keys: RowKeys, names: list[str], rows_per_shard: int) -> None:
    """Makes every array at its full size, and fills those that the manifest knows."""
    n_rows, n_names = len(keys.clip_id), len(names)
    n_shards = -(-n_rows // rows_per_shard)
    by_row, by_name, by_shard = ("row",), ("descriptor",), ("shard",)
    nan = float("nan")
    # name, shape, chunk, type, value until written, dimensions
    arrays: list[tuple[str, tuple[int, ...], tuple[int, ...], str, Any, tuple[str, ...]]] = [
        ("descriptors", (n_rows, n_names), (rows_per_shard, n_names), "float32", nan, ("row", "descriptor")),
        *((name, (n_rows,), (min(n_rows, KEY_CHUNK_ROWS),), "string", "", by_row) for name in KEYS),
        ("start_s", (n_rows,), (rows_per_shard,), "float64", nan, by_row),
        ("reason", (n_rows,), (rows_per_shard,), "string", "", by_row),
        ("descriptor", (n_names,), (n_names,), "string", "", by_name),
        ("center", (n_names,), (n_names,), "float32", nan, by_name),
        ("scale", (n_names,), (n_names,), "float32", nan, by_name),
        ("shard_sha256", (n_shards,), (1,), "string", "", by_shard),
        ("rows_sha256", (n_shards,), (1,), "string", "", by_shard),
        ("done", (n_shards,), (1,), "bool", False, by_shard),
    ]
    codec = BloscCodec(cname="zstd", clevel=5, shuffle="shuffle")
    for name, shape, chunks, dtype, fill, dimensions in arrays:
        coordinates: dict[str, Any] = {"coordinates": "clip_id track_id split"} if name == "descriptors" else {}
        group.create_array(
            name,
            shape=shape,
            chunks=chunks,
            dtype=dtype,
            fill_value=fill,
            dimension_names=dimensions,
            compressors=[codec, Crc32cCodec()],
            attributes=coordinates,
        )
    for name, values in (("descriptor", names), *((name, getattr(keys, name)) for name in KEYS)):
        array = group[name]
        if isinstance(array, zarr.Array):
            array[:] = as_text(values)


class Strays:
    """What killed writers left of the chunks of a store: `<chunk>.<random>.partial`, as it was at the first question.

    An array's folder is listed once for all chunks: once for each would cost the square of the number of shards.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, dict[str, list[Path]]] = {}

    def of(self, name: str, chunk: int) -> list[Path]:
        """Those of one chunk (its first number) of an array; told once."""
        folder = self._path / name / "c"
        if name not in self._found:
            self._found[name] = {}
            for stray in folder.glob("*.partial"):
                self._found[name].setdefault(stray.name.partition(".")[0], []).append(stray)
        return [*self._found[name].pop(str(chunk), ()), *(folder / str(chunk)).glob("*.partial")]


def as_text(values: Sequence[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def as_strings(values: Any) -> list[str]:
    return [str(value) for value in values]


def sync(path: Path) -> None:
    """fsync of a file or folder; one that is not there (a chunk that holds only the fill value) is passed over."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync of a folder and all that is in it."""
    for path in sorted(folder.rglob("*"), reverse=True):
        sync(path)
    sync(folder)
