"""The descriptors of all cached clips: a Zarr v3 group that fills shard by shard.

Layout, version 1 (`features.zarr/`, dimension names in brackets; a row is a clip of the manifest, so
row = index of the track in the manifest x clips_per_track + slot, and shard k holds the rows of stem shard k):

    descriptors  [row, descriptor] float32  NaN for clips that failed and for shards that are not done
    clip_id, track_id, path, split  [row]   text, known from the manifest, written when the store is made
    start_s      [row] float64              where the clip starts in its track, seconds; NaN where unknown
    reason       [row] text                 why a clip has no descriptors; empty where it has
    descriptor   [descriptor] text          names: the coordinate of the second dimension
    center, scale  [descriptor] float32     robust statistics of the training split (see `robust_statistics`);
                                            NaN until every shard is done
    shard_sha256 [shard] text               hash of the stem shard that the rows were computed from
    done         [shard] bool               written after everything else of a shard

Attributes of the group: `format`, `version`, `rows_per_shard`, `descriptors_version`, `descriptors` (the table:
name, group, stem, unit, formula, source, moves_with_level) and `made_with` (the settings that the rows depend on).

The store is made under a temporary name and renamed when whole. After that no metadata changes, so its
consolidated metadata stay true and `xarray.open_zarr(path)` reads it. What a shard fills is chunked by shard:
one writer a chunk (`mixstyle.cache.storage.locks` sees to it) loses nothing, whatever number of processes write. Chunks
appear by rename and are fsynced and read back before `done`. Text is variable-length UTF-8, the one text type that
Zarr v3 specifies.
"""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] (compiled)
from numpy.typing import ArrayLike, NDArray
from zarr.codecs import BloscCodec

from mixstyle.pipeline.core.errors import MixstyleError

if TYPE_CHECKING:  # neither pandas nor torch is needed to read a store
    import pandas

    from mixstyle.pipeline.descriptors.compute import Descriptor

FORMAT = "mixstyle-features"
VERSION = 1

IQR_OF_NORMAL = 1.3489795003921634
"""Interquartile range of a normal distribution over its standard deviation: 2 x the normal quantile of 0.75."""

SCALE_FLOOR = 1e-3
"""Smallest scale of a descriptor, in its unit: a descriptor that is constant in training is not blown up."""

SPREAD_FLOOR = 0.1
"""Smallest scale as a part of the standard deviation: one that seldom moves is not blown up when it does."""

KEY_CHUNK_ROWS = 65_536
"""Rows in a chunk of what the manifest knows: few files, since one process writes them once."""

_KEYS = ("clip_id", "track_id", "path", "split")


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


def robust_statistics(values: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Center and scale `[D]` of descriptors `[N, D]`; rows that hold a NaN are left out.

    center = median; scale = max(IQR / 1.349, 0.1 standard deviations, 0.001), so that (d - center) / scale of a
    normal distribution is standard normal, and neither a constant descriptor nor one with a few outliers
    explodes. Raises MixstyleError where no row is left.
    """
    rows = np.asarray(values, dtype=np.float64)
    rows = rows[np.isfinite(rows).all(axis=1)]
    if not len(rows):
        raise MixstyleError(
            "no clip has descriptors, so they have no statistics; see the reasons in failures.csv", code="no-music"
        )
    low, median, high = np.percentile(rows, [25, 50, 75], axis=0)
    scale = np.maximum((high - low) / IQR_OF_NORMAL, SPREAD_FLOOR * rows.std(axis=0))
    return median.astype(np.float32), np.maximum(scale, SCALE_FLOOR).astype(np.float32)


def set_codec_threads(writers: int) -> int:
    """Shares the cores out between so many processes that write at once; the threads that this one's codec may use.

    Zarr's Blosc codec is that of numcodecs, which would otherwise use as many threads in each process as there are
    cores, and 8 at most.
    """
    threads = max(1, len(os.sched_getaffinity(0)) // writers)
    blosc.set_nthreads(threads)
    return threads


class FeatureStore:
    """A store on disk; `FeatureStore.create` makes one and `FeatureStore.open` reads or goes on filling one."""

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        self._group = group
        attributes = dict(group.attrs)
        self.rows_per_shard = _whole(attributes["rows_per_shard"])
        self.descriptors_version = _whole(attributes["descriptors_version"])
        self.table: list[dict[str, Any]] = json.loads(json.dumps(attributes["descriptors"]))
        self.made_with: dict[str, Any] = json.loads(json.dumps(attributes["made_with"]))
        self.names: list[str] = [row["name"] for row in self.table]
        self.n_rows: int = self._array("descriptors").shape[0]
        self.n_shards: int = self._array("done").shape[0]

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        descriptors: "Sequence[Descriptor]",
        descriptors_version: int,
        keys: RowKeys,
        rows_per_shard: int,
        made_with: Mapping[str, Any],
    ) -> "FeatureStore":
        """Makes an empty store with every row in place, or opens the one that another process made meanwhile."""
        if len({len(getattr(keys, name)) for name in _KEYS}) != 1 or not keys.clip_id:
            raise ValueError("keys should hold as many clip ids as track ids, paths and splits, and at least one")
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent))
        try:
            group = zarr.open_group(scratch, mode="w", zarr_format=3)
            group.attrs.update(
                {
                    "format": FORMAT,
                    "version": VERSION,
                    "rows_per_shard": rows_per_shard,
                    "descriptors_version": descriptors_version,
                    "descriptors": [d.stored() for d in descriptors],
                    "made_with": dict(made_with),
                }
            )
            _allocate(group, keys, [d.name for d in descriptors], rows_per_shard)
            with warnings.catch_warnings():
                # Version 3 does not specify consolidated metadata yet; xarray looks for them first, and readers
                # that do not know them pass them over.
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(scratch)
            _sync_tree(scratch)
            scratch.chmod(0o755)  # mkdtemp's folders are closed to others
            # Where another process was first, its store stands and ours is dropped.
            with contextlib.suppress(OSError):
                scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        _sync(path.parent)
        return cls.open(path, write=True)

    @classmethod
    def open(cls, path: Path | str, *, write: bool = False) -> "FeatureStore":
        """Opens a store. Raises MixstyleError where there is none, or one of another format or version."""
        path = Path(path)
        if not path.is_dir():
            raise MixstyleError(f"{path}: no feature store", code="step-missing", remedy=("features",))
        try:
            group = zarr.open_group(path, mode="r+" if write else "r", zarr_format=3, use_consolidated=False)
        except (OSError, ValueError, KeyError) as error:
            raise MixstyleError(
                f"{path}: not a feature store; remove it, then", code="wrong-file", remedy=("features",)
            ) from error
        if group.attrs.get("format") != FORMAT:
            raise MixstyleError(
                f"{path}: not a feature store; remove it, then", code="wrong-file", remedy=("features",)
            )
        if group.attrs.get("version") != VERSION:
            raise MixstyleError(
                f"{path}: version {group.attrs.get('version')} of the format, and this mixstyle reads {VERSION}",
                code="unknown-version",
                remedy=("features", "--rebuild"),
            )
        return cls(path, group)

    # What a shard fills

    def shard_rows(self, shard: int) -> slice:
        """The rows that belong to a shard."""
        start = shard * self.rows_per_shard
        return slice(start, min(start + self.rows_per_shard, self.n_rows))

    def write_shard(self, shard: int, rows: ShardRows) -> None:
        """Fills a shard's rows, checks that they are on the disk, and marks the shard done.

        Raises ValueError for another number of rows or descriptors, MixstyleError where the disk gives back
        something else than was written.
        """
        place = self.shard_rows(shard)
        n = place.stop - place.start
        if rows.values.shape != (n, len(self.names)) or len(rows.start_s) != n or len(rows.reason) != n:
            raise ValueError(f"shard {shard} has {n} rows of {len(self.names)} descriptors, not {rows.values.shape}")
        if self.done[shard]:
            self._put("done", slice(shard, shard + 1), np.array([False]), shard)
        self._put("descriptors", place, np.asarray(rows.values, np.float32), shard)
        self._put("start_s", place, np.asarray(rows.start_s, np.float64), shard)
        self._put("reason", place, _text(rows.reason), shard)
        self._put("shard_sha256", slice(shard, shard + 1), _text([rows.shard_sha256]), shard)
        self._put("done", slice(shard, shard + 1), np.array([True]), shard)

    @property
    def done(self) -> NDArray[np.bool_]:
        """`[shard]`: which shards are whole, as the disk says now."""
        return np.asarray(self._array("done")[:], dtype=bool)

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return bool(self.done.all())

    @property
    def shard_sha256(self) -> list[str]:
        """`[shard]`: hash of the stem shard behind each shard's rows; empty where it is not done."""
        hashes = _strings(self._array("shard_sha256")[:])
        return [value if done else "" for value, done in zip(hashes, self.done, strict=True)]

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when the table, its version, a row's key or a shard's content changes."""
        content = [self.descriptors_version, self.names, self.made_with, self.clip_ids, self.splits]
        text = json.dumps([*content, self.shard_sha256], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    # Reading

    @cached_property
    def clip_ids(self) -> list[str]:
        """`[row]`: `<track_id>_<slot>`."""
        return _strings(self._array("clip_id")[:])

    @cached_property
    def track_ids(self) -> list[str]:
        """`[row]`."""
        return _strings(self._array("track_id")[:])

    @cached_property
    def splits(self) -> list[str]:
        """`[row]`: train, validation or test."""
        return _strings(self._array("split")[:])

    @property
    def reasons(self) -> list[str]:
        """`[row]`: why a clip has no descriptors; empty where it has, or where its shard is not done."""
        return _strings(self._array("reason")[:])

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {clip_id: row for row, clip_id in enumerate(self.clip_ids)}

    def row(self, clip_id: str) -> int:
        """The row of a clip, in constant time. Raises MixstyleError for an unknown one."""
        try:
            return self._row_of[clip_id]
        except KeyError:
            raise MixstyleError(f"{self.path}: no clip {clip_id!r} in the feature store", code="not-found") from None

    def rows(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Descriptors `[n, D]` of some rows, in their order; only the shards that hold them are read."""
        index = np.asarray(indices, dtype=np.int64)
        if index.ndim != 1 or (index.size and not 0 <= index.min() <= index.max() < self.n_rows):
            raise IndexError(f"rows should lie in 0..{self.n_rows - 1}")
        if not index.size:
            return np.empty((0, len(self.names)), np.float32)
        selected = self._array("descriptors").get_orthogonal_selection((index, slice(None)))
        return np.asarray(selected, dtype=np.float32)

    def values(self) -> NDArray[np.float32]:
        """All descriptors, `[row, descriptor]`."""
        return np.asarray(self._array("descriptors")[:], dtype=np.float32)

    def statistics(self, rows: ArrayLike | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Robust center and scale `[D]` (see `robust_statistics`) over some rows; None: the training split's.

        Without a row in the training split, None takes all rows.
        """
        if rows is None:
            training = [row for row, split in enumerate(self.splits) if split == "train"]
            rows = training or range(self.n_rows)
        return robust_statistics(self.rows(np.asarray(rows)))

    def write_statistics(self, center: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Stores the training split's statistics; equal stores get equal bytes, whoever writes."""
        self._put("center", slice(0, len(self.names)), center, 0)
        self._put("scale", slice(0, len(self.names)), scale, 0)

    def stored_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Center and scale `[D]` as stored, or None before every shard is done."""
        if not self.complete:
            return None
        center, scale = (np.asarray(self._array(name)[:], np.float32) for name in ("center", "scale"))
        return (center, scale) if np.isfinite(center).all() and np.isfinite(scale).all() else None

    def training_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Center and scale `[D]` over the training songs: as stored, or computed where they are not yet."""
        return self.stored_statistics() or self.statistics()

    def to_dataframe(self) -> "pandas.DataFrame":
        """One row a clip: its keys, start_s, reason and every descriptor by name. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise MixstyleError("to_dataframe needs pandas: pip install pandas", code="no-package") from error
        keys = {name: _strings(self._array(name)[:]) for name in (*_KEYS, "reason")}
        start_s = np.asarray(self._array("start_s")[:])
        values = pandas.DataFrame(self.values(), columns=pandas.Index(self.names))
        return pandas.concat([pandas.DataFrame({**keys, "start_s": start_s}), values], axis=1)

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        if not isinstance(array, zarr.Array):
            raise MixstyleError(
                f"{self.path}: {name} is damaged", code="damaged-file", remedy=("features", "--rebuild")
            )
        return array

    def _put(self, name: str, place: slice, values: NDArray[Any], chunk: int) -> None:
        """Writes one chunk, makes it durable and reads it back; sweeps what a killed writer of it left."""
        folder = self.path / name / "c"
        for stray in [*folder.glob(f"{chunk}.*.partial"), *(folder / str(chunk)).glob("*.partial")]:
            stray.unlink(missing_ok=True)
        self._array(name)[place] = values
        for written in (folder / str(chunk) / "0", folder / str(chunk), folder):
            _sync(written)
        back = np.asarray(self._array(name)[place])
        same = np.array_equal(back, values, equal_nan=values.dtype.kind == "f")
        if not same:
            raise MixstyleError(
                f"{self.path}: {name} of shard {chunk} reads back otherwise than it was written; check the disk",
                code="cannot-write",
            )


def _allocate(group: zarr.Group, keys: RowKeys, names: list[str], rows_per_shard: int) -> None:
    """Makes every array at its full size, and fills those that the manifest knows."""
    n_rows, n_names = len(keys.clip_id), len(names)
    n_shards = -(-n_rows // rows_per_shard)
    by_row, by_name, by_shard = ("row",), ("descriptor",), ("shard",)
    nan = float("nan")
    # name, shape, chunk, type, value until written, dimensions
    arrays: list[tuple[str, tuple[int, ...], tuple[int, ...], str, Any, tuple[str, ...]]] = [
        ("descriptors", (n_rows, n_names), (rows_per_shard, n_names), "float32", nan, ("row", "descriptor")),
        *((name, (n_rows,), (min(n_rows, KEY_CHUNK_ROWS),), "string", "", by_row) for name in _KEYS),
        ("start_s", (n_rows,), (rows_per_shard,), "float64", nan, by_row),
        ("reason", (n_rows,), (rows_per_shard,), "string", "", by_row),
        ("descriptor", (n_names,), (n_names,), "string", "", by_name),
        ("center", (n_names,), (n_names,), "float32", nan, by_name),
        ("scale", (n_names,), (n_names,), "float32", nan, by_name),
        ("shard_sha256", (n_shards,), (1,), "string", "", by_shard),
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
            compressors=codec,
            attributes=coordinates,
        )
    for name, values in (("descriptor", names), *((name, getattr(keys, name)) for name in _KEYS)):
        array = group[name]
        if isinstance(array, zarr.Array):
            array[:] = _text(values)


def _text(values: Sequence[str]) -> NDArray[Any]:
    return np.array(list(values), dtype=np.dtypes.StringDType())


def _strings(values: Any) -> list[str]:
    return [str(value) for value in values]


def _whole(value: Any) -> int:
    return int(value)


def _sync(path: Path) -> None:
    """fsync of a file or folder; one that is not there (a chunk of nothing but the fill value) is passed over."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)
