"""Processes that fill one descriptor store behind a URL, as `features` does on several machines, and what must come."""

from pathlib import Path

import numpy as np

from helpers.s3_server import BUCKET
from helpers.store_rows import shard
from mixstyle.cache.feature_store.layout import RowKeys
from mixstyle.cache.feature_store.place import features_place
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION

SHARDS, ROWS_PER_SHARD = 3, 4
NOT_THERE = ("step-missing", "not-found", "remote")
"""Codes of errors that say that something cannot be read (yet)."""


def create(location: Path, cache_dir: Path | None = None) -> FeatureStore:
    """The empty store, made where there is none."""
    rows = range(SHARDS * ROWS_PER_SHARD)
    keys = RowKeys(
        [f"{row // 2:012x}_{row % 2}" for row in rows],
        [f"{row // 2:012x}" for row in rows],
        [f"song {row // 2}.flac" for row in rows],
        ["train" for _ in rows],
    )
    place = features_place(location, cache_dir)
    try:
        return FeatureStore.open(place, write=True)
    except MixstyleError as error:
        if error.code != "step-missing":
            raise
    return FeatureStore.create(
        place,
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=keys,
        rows_per_shard=ROWS_PER_SHARD,
        made_with={"stems": {"clip_s": 10.0}},
    )


def fill(store: FeatureStore) -> int:
    """Fills what is not done, and writes the statistics once all is; how many shards it filled."""
    todo = np.flatnonzero(~store.done).tolist()
    for number in todo:
        store.write_shard(number, shard(store, number))
    store.refresh()
    if store.complete:
        store.write_statistics(*store.statistics())
    return len(todo)


class DescriptorWorkers:
    """What workers and readers of a descriptor store do. root: where a folder's store goes."""

    def __init__(self, root: Path) -> None:
        self._local = create(root)
        fill(self._local)

    def work(self, url: str, folder: Path) -> int:
        """Fills what is not there."""
        return fill(create(Path(url), folder))

    def check_read(self, url: str, folder: Path) -> int:
        """Reads what is there now: it is as in the folder, or an error says that it is not there. How many rows."""
        try:
            store = FeatureStore.open(features_place(url, folder))
        except MixstyleError as error:
            if error.code not in NOT_THERE:
                raise AssertionError(f"read as {error.code}: {error}") from error
            return 0
        assert not store.damaged_shards()
        read = 0
        for number in np.flatnonzero(store.done).tolist():
            place = store.shard_rows(number)
            np.testing.assert_array_equal(store.values()[place], self._local.values()[place])
            read += place.stop - place.start
        return read

    def check_objects(self, name: str, folder: Path) -> int:
        """Holds what is kept in the end against the folder's files: none more, none less."""
        del folder
        store = RemoteStore(f"s3://{BUCKET}/{name}")
        found = {key: store.read(key) for key in store.listed()}
        folder = self._local.path
        files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
        assert found.keys() == files.keys(), found.keys() ^ files.keys()
        for key, path in files.items():
            assert found[key] == path.read_bytes(), key
        return 0
