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
    rows_sha256  [shard] text               hash of the shard's rows (`mixstyle.cache.feature_store.damage`); stores of
                                            earlier versions lack it
    done         [shard] bool               written after everything else of a shard

Attributes of the group: `format`, `version`, `rows_per_shard`, `descriptors_version`, `descriptors` (the table:
name, group, stem, unit, formula, source, moves_with_level), `made_with` (the settings that the rows depend on),
`keys_sha256` (of what the manifest knows) and `checksum` (of the other attributes). Every chunk ends in its CRC-32C.

The store is made under a temporary name and renamed when whole. After that no metadata changes, so its
consolidated metadata stay true and `xarray.open_zarr(path)` reads it. Behind a URL (`place.py` beside this)
each file is an object of the same name and bytes, and the group's `zarr.json` is the last of those of an empty store.

What a shard fills is chunked by shard: one writer a chunk (`mixstyle.cache.storage.locks` sees to it) loses nothing,
whatever number of processes write. Chunks appear by rename and are fsynced and read back before `done`. Text is
variable-length UTF-8, the one text type that Zarr v3 specifies.
"""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] (compiled)
from numpy.typing import ArrayLike, NDArray

from mixstyle.cache.feature_store.arrays import StoreArrays, damaged_store
from mixstyle.cache.feature_store.damage import (
    CHECKSUM,
    UNREADABLE,
    attributes_checksum,
    cut_chunks,
    keys_digest,
    metadata_problem,
    missing_rows,
    rows_digest,
)
from mixstyle.cache.feature_store.layout import (
    RowKeys,
    ShardRows,
    allocate,
    as_strings,
    as_text,
    sync,
    sync_tree,
)
from mixstyle.cache.feature_store.names import BY_SHARD, KEYS, ROOT
from mixstyle.cache.feature_store.place import features_place
from mixstyle.cache.storage.atomic import scratch_folder
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.remote_tree import RemoteTree
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.descriptors.robust_statistics import robust_statistics

if TYPE_CHECKING:  # neither pandas nor torch is needed to read a store
    import pandas

    from mixstyle.pipeline.descriptors.compute import Descriptor

FORMAT = "mixstyle-features"
VERSION = 1


def set_codec_threads(writers: int) -> int:
    """Shares the cores out between so many processes that write at once; the threads that this one's codec may use.

    Zarr's Blosc codec is that of numcodecs, which would otherwise use as many threads in each process as there are
    cores, and 8 at most.
    """
    threads = max(1, usable_cores() // writers)
    blosc.set_nthreads(threads)
    return threads


class FeatureStore:
    """A store on disk or behind a URL; `create` makes one, `open` reads or goes on filling one.

    place: where it is kept. path: its folder, or that of its copy on this machine. name: as people call it.
    """

    def __init__(self, place: Place, group: zarr.Group) -> None:
        self.place, self.path, self.name = place, place.folder, place.name
        self._arrays = StoreArrays(place, group)
        attributes = dict(group.attrs)
        self.rows_per_shard = _whole(attributes["rows_per_shard"])
        self.descriptors_version = _whole(attributes["descriptors_version"])
        self.table: list[dict[str, Any]] = json.loads(json.dumps(attributes["descriptors"]))
        self.made_with: dict[str, Any] = json.loads(json.dumps(attributes["made_with"]))
        self.names: list[str] = [row["name"] for row in self.table]
        self.n_rows: int = self._arrays.shape("descriptors")[0]
        self.n_shards: int = self._arrays.shape("done")[0]

    def __repr__(self) -> str:
        return f"FeatureStore({self.name!r}, {self.n_rows} clips, {len(self.names)} descriptors)"

    @classmethod
    def create(
        cls,
        where: Path | Place,
        *,
        descriptors: "Sequence[Descriptor]",
        descriptors_version: int,
        keys: RowKeys,
        rows_per_shard: int,
        made_with: Mapping[str, Any],
    ) -> "FeatureStore":
        """Makes an empty store with every row in place, or opens the one that another process made meanwhile."""
        place = features_place(where)
        path = place.folder
        if len({len(getattr(keys, name)) for name in KEYS}) != 1 or not keys.clip_id:
            raise ValueError("keys should hold as many clip ids as track ids, paths and splits, and at least one")
        with scratch_folder(path) as scratch:
            group = zarr.open_group(scratch, mode="w", zarr_format=3)
            attributes = {
                "format": FORMAT,
                "version": VERSION,
                "rows_per_shard": rows_per_shard,
                "descriptors_version": descriptors_version,
                "descriptors": [d.stored() for d in descriptors],
                "made_with": dict(made_with),
                "keys_sha256": keys_digest([getattr(keys, name) for name in KEYS]),
            }
            group.attrs.update({**attributes, CHECKSUM: attributes_checksum(attributes)})
            allocate(group, keys, [d.name for d in descriptors], rows_per_shard)
            with warnings.catch_warnings():
                # Version 3 does not specify consolidated metadata yet; xarray looks for them first, and readers
                # that do not know them pass them over.
                warnings.simplefilter("ignore")
                zarr.consolidate_metadata(scratch)
            sync_tree(scratch)
            # Where another process was first, its store stays and ours is dropped.
            if isinstance(place, RemoteTree):
                place.begin(scratch)
            else:
                with contextlib.suppress(OSError):
                    scratch.rename(path)
        sync(path.parent)
        return cls.open(place, write=True)

    @classmethod
    def open(cls, where: Path | str | Place, *, write: bool = False) -> "FeatureStore":
        """Opens a store: in a folder, behind a URL, or at a place. One behind a URL is copied as it is now (`refresh`).

        Raises MixstyleError where there is none, or one of another format or version, and as `RemoteStore` does.
        """
        place = features_place(where)
        place.refresh()
        path = place.folder
        if path.is_file() or place.foreign:
            raise _not_a_store(place)
        if not is_there(place):
            raise MixstyleError(f"{place.name}: no feature store", code="step-missing", remedy=("features",))
        try:
            group = zarr.open_group(path, mode="r+" if write else "r", zarr_format=3, use_consolidated=False)
            attributes = dict(group.attrs)
        except UNREADABLE as error:
            raise _unopened(place, one_line(error)) from error
        if attributes.get("format") != FORMAT:
            raise _unopened(place, "its attributes do not name the format")
        if attributes.get("version") != VERSION:
            raise MixstyleError(
                f"{place.name}: version {attributes.get('version')} of the format; this mixstyle reads version "
                f"{VERSION}",
                code="unknown-version",
                remedy=("features", "--rebuild"),
            )
        try:
            problem = metadata_problem(path, attributes)
            store = None if problem else cls(place, group)
        except (*UNREADABLE, MixstyleError) as error:
            raise damaged_store(place.name, f"its metadata cannot be read ({one_line(error)})") from error
        if store is None:
            raise damaged_store(place.name, problem)
        return store

    def refresh(self) -> None:
        """Takes in what others have kept since, behind a URL; a folder is read as it is anyway."""
        self.place.refresh()

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
        with self.place.turn():
            self._write_shard(shard, place, rows)

    def _write_shard(self, shard: int, place: slice, rows: ShardRows) -> None:
        if self.place.is_remote:
            # Chunks are put over what is there: another machine may have filled the shard since the last look, with
            # equal bytes, and readers must not meet a done shard of which something is removed.
            self._arrays.remove_chunk("done", shard)
        else:
            self._forget_shard(shard)
        self._arrays.write_chunk("descriptors", place, np.asarray(rows.values, np.float32), shard)
        self._arrays.write_chunk("start_s", place, np.asarray(rows.start_s, np.float64), shard)
        self._arrays.write_chunk("reason", place, as_text(rows.reason), shard)
        digest = rows_digest(rows.values, rows.start_s, rows.reason, rows.shard_sha256)
        one, told = slice(shard, shard + 1), {"shard_sha256": rows.shard_sha256, "rows_sha256": digest}
        for name in ("shard_sha256", "rows_sha256") if self._has_digests else ("shard_sha256",):
            self._arrays.write_chunk(name, one, as_text([told[name]]), shard)
        self._arrays.write_chunk("done", one, np.array([True]), shard)

    def forget_shard(self, shard: int) -> None:
        """Marks a shard as not done and removes what is there of it, whole or damaged."""
        with self.place.turn():
            self._forget_shard(shard)

    def _forget_shard(self, shard: int) -> None:
        for name in reversed(BY_SHARD):  # done first
            self._arrays.remove_chunk(name, shard)

    def damaged_shards(self) -> dict[int, str]:
        """Shards that are marked done and do not hold what was written, and what is wrong with each.

        Reads everything. `write_shard` repairs them. Raises MixstyleError ("damaged-file") where the store is damaged
        in what no shard fills, and has to be made again.
        """
        self.check_keys()
        damaged = dict.fromkeys(self._cut(BY_SHARD), "a chunk of it is cut")
        done, from_stems = self.done, self.shard_sha256
        digests = as_strings(self._arrays.read_each("rows_sha256", "")) if self._has_digests else None
        try:
            whole = None if damaged else self._rows(slice(0, self.n_rows))
        except MixstyleError:
            whole = None  # some chunk of it: shard by shard tells which
        for shard in (int(shard) for shard in np.flatnonzero(done) if shard not in damaged):
            place = self.shard_rows(shard)
            try:
                values, start_s, reason = [part[place] for part in whole] if whole else self._rows(place)
            except MixstyleError as error:
                damaged[shard] = error.message.removeprefix(f"{self.name}: damaged: ")
                continue
            found = rows_digest(values, start_s, as_strings(reason), from_stems[shard])
            if not from_stems[shard] or (digests is not None and digests[shard] != found):
                damaged[shard] = "its rows differ from those that were written"
            elif lost := missing_rows(values, start_s, as_strings(reason)):
                damaged[shard] = f"{lost} of its rows are gone"
        return damaged

    def unmarked_shards(self) -> list[int]:
        """Shards that have everything but the mark that they are done.

        It is gone, or whoever wrote them was killed just before it. `write_shard` makes them whole.
        """
        hashes = as_strings(self._arrays.read_each("shard_sha256", ""))
        return [shard for shard, (value, done) in enumerate(zip(hashes, self.done, strict=True)) if value and not done]

    def _rows(self, place: slice) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Descriptors, starts and reasons of some rows."""
        return (
            self._arrays.read("descriptors", place),
            self._arrays.read("start_s", place),
            self._arrays.read("reason", place),
        )

    def check_keys(self) -> None:
        """Raises MixstyleError ("damaged-file") where what is known of each row is not what was written."""
        if self._cut((*KEYS, "descriptor")):
            raise damaged_store(self.name, "a chunk of the clips' names is cut")
        columns = [as_strings(self._arrays.read(name)) for name in KEYS]
        stored = self._arrays.attributes.get("keys_sha256")
        whole = stored == keys_digest(columns) if stored else all("" not in column for column in columns)
        if not whole or as_strings(self._arrays.read("descriptor")) != self.names:
            raise damaged_store(self.name, "the clips that it names differ from those that were written")

    def _cut(self, names: Sequence[str]) -> list[int]:
        """Chunks of some arrays that are cut, where no checksum tells."""
        return [] if self._has_digests else [chunk for name in names for chunk in cut_chunks(self.path, name)]

    @property
    def _has_digests(self) -> bool:
        return "rows_sha256" in self._arrays

    @property
    def done(self) -> NDArray[np.bool_]:
        """`[shard]`: which shards are whole, as the disk says now."""
        return np.asarray(self._arrays.read_each("done", False), dtype=bool)

    @property
    def complete(self) -> bool:
        """Whether every shard is done."""
        return bool(self.done.all())

    @property
    def shard_sha256(self) -> list[str]:
        """`[shard]`: hash of the stem shard behind each shard's rows; empty where it is not done."""
        hashes = as_strings(self._arrays.read_each("shard_sha256", ""))
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
        return as_strings(self._arrays.read("clip_id"))

    @cached_property
    def track_ids(self) -> list[str]:
        """`[row]`."""
        return as_strings(self._arrays.read("track_id"))

    @cached_property
    def splits(self) -> list[str]:
        """`[row]`: train, validation or test."""
        return as_strings(self._arrays.read("split"))

    @property
    def reasons(self) -> list[str]:
        """`[row]`: why a clip has no descriptors; empty where it has, or where its shard is not done."""
        return as_strings(self._arrays.read("reason"))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {clip_id: row for row, clip_id in enumerate(self.clip_ids)}

    def row(self, clip_id: str) -> int:
        """The row of a clip, in constant time. Raises MixstyleError for an unknown one."""
        try:
            return self._row_of[clip_id]
        except KeyError:
            raise MixstyleError(f"{self.name}: no clip {clip_id!r} in the feature store", code="not-found") from None

    def rows(self, indices: ArrayLike) -> NDArray[np.float32]:
        """Descriptors `[n, D]` of some rows, in their order; only the shards that hold them are read."""
        index = np.asarray(indices, dtype=np.int64)
        if index.ndim != 1 or (index.size and not 0 <= index.min() <= index.max() < self.n_rows):
            raise IndexError(f"rows should be in 0..{self.n_rows - 1}")
        if not index.size:
            return np.empty((0, len(self.names)), np.float32)
        return np.asarray(self._arrays.read_rows("descriptors", index), dtype=np.float32)

    def values(self) -> NDArray[np.float32]:
        """All descriptors, `[row, descriptor]`."""
        return np.asarray(self._arrays.read("descriptors"), dtype=np.float32)

    def statistics(self, rows: ArrayLike | None = None) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Robust center and scale `[D]` (see `robust_statistics`) over some rows; None: the training split's.

        Without a row in the training split, None takes all rows.
        """
        if rows is None:
            rows = [row for row, split in enumerate(self.splits) if split == "train"] or range(self.n_rows)
        return robust_statistics(self.rows(np.asarray(rows)))

    def write_statistics(self, center: NDArray[np.float32], scale: NDArray[np.float32]) -> None:
        """Stores the training split's statistics; equal stores get equal bytes, whichever process writes."""
        with self.place.turn():
            self._arrays.write_chunk("center", slice(0, len(self.names)), center, 0)
            self._arrays.write_chunk("scale", slice(0, len(self.names)), scale, 0)

    def forget_statistics(self) -> None:
        """Removes the training split's statistics, whole or damaged."""
        with self.place.turn():
            for name in ("center", "scale"):
                self._arrays.remove_chunk(name, 0)

    def stored_statistics(self, *, checked: bool = False) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
        """Center and scale `[D]` as stored, or None before every shard is done; checked: raises where damaged."""
        try:
            found = [self._arrays.read(name) for name in ("center", "scale")] if self.complete else []
        except MixstyleError:
            if checked:
                raise
            found = []  # they follow from the rows
        return (found[0], found[1]) if found and np.isfinite(found).all() else None

    def statistics_differ(self) -> bool:
        """Whether statistics are stored and are damaged or not those of the rows (no checksum told that before)."""
        try:
            stored = self.stored_statistics(checked=True)
        except MixstyleError:
            return True
        return stored is not None and not all(
            np.allclose(kept, made, rtol=1e-5, atol=1e-6)  # float32 of sums in another order
            for kept, made in zip(stored, self.statistics(), strict=True)
        )

    def lacks_statistics(self) -> bool:
        """Whether one of the statistics is stored and the other is not, although every shard is done."""
        center, scale = (bool(np.isfinite(self._arrays.read(name)).any()) for name in ("center", "scale"))
        return self.complete and center != scale

    def training_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Center and scale `[D]` over the training songs: as stored, or computed where they are not yet."""
        return self.stored_statistics() or self.statistics()

    def to_dataframe(self) -> "pandas.DataFrame":
        """One row a clip: its keys, start_s, reason and every descriptor by name. Needs pandas."""
        try:
            import pandas
        except ImportError as error:
            raise MixstyleError("to_dataframe needs pandas: pip install pandas", code="no-package") from error
        keys = {name: as_strings(self._arrays.read(name)) for name in (*KEYS, "reason")}
        start_s = self._arrays.read("start_s")
        values = pandas.DataFrame(self.values(), columns=pandas.Index(self.names))
        return pandas.concat([pandas.DataFrame({**keys, "start_s": start_s}), values], axis=1)


def is_there(place: Place) -> bool:
    """Whether a store may be at a place, by its last look: a folder with something in it."""
    if place.is_remote:
        return (place.folder / ROOT).is_file()
    return place.folder.is_dir()


def _unopened(place: Place, why: str) -> MixstyleError:
    """What to raise where a folder does not open as a store: a damaged one, if it has the arrays of one."""
    if all((place.folder / name).is_dir() for name in ("descriptors", "shard_sha256", "done")):
        return damaged_store(place.name, f"its metadata are missing or cannot be read ({why})")
    return _not_a_store(place)


def _not_a_store(place: Place) -> MixstyleError:
    return MixstyleError(
        f"{place.name}: not a feature store; move it away, or set features.features_path to another place, then",
        code="wrong-file",
        remedy=("features",),
    )


def _whole(value: Any) -> int:
    return int(value)
