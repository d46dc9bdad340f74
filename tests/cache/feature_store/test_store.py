"""The descriptor store: what xarray, pandas and plain zarr read, who may write at once, and what survives a kill."""

import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr
from helpers.digests import digest
from helpers.paths import TESTS
from helpers.store_rows import shard
from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] (compiled)

from mixstyle.cache.feature_store.layout import RowKeys, ShardRows
from mixstyle.cache.feature_store.store import FeatureStore, set_codec_threads
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION

ROWS_PER_SHARD = 6
SHARDS = 4
ROWS = 21  # the last shard is short


def keys(rows: int = ROWS) -> RowKeys:
    track = [f"{row // 3:012x}" for row in range(rows)]
    return RowKeys(
        clip_id=[f"{name}_{row % 3}" for row, name in enumerate(track)],
        track_id=track,
        path=[f"Künstler {row // 3}/日本.mp3" for row in range(rows)],
        split=["test" if row // 3 == 1 else "train" for row in range(rows)],
    )


def make(path: Path, rows: int = ROWS) -> FeatureStore:
    return FeatureStore.create(
        path,
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=keys(rows),
        rows_per_shard=ROWS_PER_SHARD,
        made_with={"stems": {"clip_s": 10.0}},
    )


def filled(path: Path) -> FeatureStore:
    store = make(path)
    for index in range(SHARDS):
        store.write_shard(index, shard(store, index))
    store.write_statistics(*store.statistics())
    return store


def test_xarray_reads_it_by_name_and_without_a_warning(tmp_path: Path) -> None:
    store = filled(tmp_path / "features.zarr")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        data = xarray.open_zarr(store.path).load()
    assert dict(data.sizes) == {"row": ROWS, "descriptor": len(DESCRIPTORS), "shard": SHARDS}
    name = DESCRIPTORS[7].name
    column = data["descriptors"].sel(descriptor=name)
    expected = np.concatenate([shard(store, index).values[:, 7] for index in range(SHARDS)])
    np.testing.assert_array_equal(column.values, expected)
    assert column.coords["clip_id"].values[4] == f"{1:012x}_1"
    assert data["path"].values[20] == "Künstler 6/日本.mp3"
    assert data["reason"].values[1] == "decoder: lost sync, “twice”"
    assert [row["unit"] for row in data.attrs["descriptors"]] == [d.unit for d in DESCRIPTORS]


def test_a_store_of_zarr_writes_no_warning_either(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(tmp_path / "features.zarr")
        FeatureStore.open(tmp_path / "features.zarr").values()


def test_rows_come_back_by_clip_in_the_order_asked_for(tmp_path: Path) -> None:
    store = FeatureStore.open(filled(tmp_path / "features.zarr").path)
    rows = [store.row(f"{6:012x}_2"), store.row(f"{0:012x}_0"), store.row(f"{3:012x}_1")]
    assert rows == [20, 0, 10]
    expected = [shard(store, 3).values[2], shard(store, 0).values[0], shard(store, 1).values[4]]
    np.testing.assert_array_equal(store.rows(rows), np.stack(expected))
    assert store.rows([]).shape == (0, len(DESCRIPTORS))
    with pytest.raises(MixstyleError) as caught:
        store.row("nobody_0")
    assert (caught.value.code, "nobody_0" in str(caught.value)) == ("not-found", True)
    with pytest.raises(IndexError):
        store.rows([ROWS])


def test_the_table_of_a_store_is_a_data_frame(tmp_path: Path) -> None:
    frame = filled(tmp_path / "features.zarr").to_dataframe()
    assert list(frame.columns[-len(DESCRIPTORS) :]) == [d.name for d in DESCRIPTORS]
    failed = np.flatnonzero(frame["reason"].to_numpy() != "").tolist()
    assert failed == [1, 7, 13, 19]
    assert frame["clip_id"].to_numpy()[failed].tolist() == [f"{row // 3:012x}_{row % 3}" for row in failed]
    assert np.flatnonzero(np.isnan(frame[DESCRIPTORS[0].name].to_numpy())).tolist() == failed


def test_one_shard_is_one_chunk_and_done_is_told_by_shard(tmp_path: Path) -> None:
    store = make(tmp_path / "features.zarr")
    assert not store.complete
    store.write_shard(2, shard(store, 2))
    assert store.done.tolist() == [False, False, True, False]
    assert store.shard_sha256 == ["", "", f"{2:064x}", ""]
    assert np.isfinite(store.values()).any(axis=1).tolist() == [row in (12, 14, 15, 16, 17) for row in range(ROWS)]
    assert [p.name for p in sorted((store.path / "descriptors" / "c").iterdir())] == ["2"]
    assert store.stored_statistics() is None


def test_values_that_do_not_fit_a_shard_are_refused(tmp_path: Path) -> None:
    store = make(tmp_path / "features.zarr")
    with pytest.raises(ValueError, match=r"\b3\b.*\b3\b"):
        store.write_shard(3, shard(store, 0))
    assert not store.done.any()


def test_fingerprint_follows_the_content(tmp_path: Path) -> None:
    store = make(tmp_path / "features.zarr")
    empty = store.fingerprint
    store.write_shard(0, shard(store, 0))
    one = store.fingerprint
    rows = shard(store, 0)
    store.write_shard(0, ShardRows(rows.values, rows.start_s, rows.reason, "f" * 64))
    assert len({empty, one, store.fingerprint}) == 3
    store.write_shard(0, rows)
    assert store.fingerprint == one


def test_statistics_are_robust_and_only_of_the_training_split(tmp_path: Path) -> None:
    store = filled(tmp_path / "features.zarr")
    values = store.values()
    train = [row for row in range(ROWS) if row // 3 != 1 and row % 6 != 1]
    stored = store.stored_statistics()
    assert stored is not None
    center, scale = stored
    # float32 of float64 statistics: half a unit in the last place
    np.testing.assert_allclose(center, np.median(values[train].astype(float), axis=0), rtol=1e-6)
    scale_of_iqr = np.subtract(*np.percentile(values[train].astype(float), [75, 25], axis=0)) / 1.3489795
    np.testing.assert_allclose(scale, np.maximum(scale_of_iqr, 0.1 * values[train].std(axis=0)), rtol=1e-5)


def test_other_formats_and_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(tmp_path / "none.zarr")
    assert (caught.value.code, "none.zarr" in str(caught.value)) == ("step-missing", True)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(tmp_path / "empty.zarr")
    assert (caught.value.code, "empty.zarr" in str(caught.value)) == ("wrong-file", True)
    zarr.open_group(tmp_path / "other.zarr", mode="w", zarr_format=3)
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(tmp_path / "other.zarr")
    assert (caught.value.code, "other.zarr" in str(caught.value)) == ("wrong-file", True)
    path = make(tmp_path / "features.zarr").path
    text = (path / "zarr.json").read_text()
    (path / "zarr.json").write_text(text.replace('"version": 1', '"version": 2'))
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(path)
    assert (caught.value.code, str(path) in str(caught.value)) == ("unknown-version", True)


def test_making_a_store_that_is_there_keeps_what_it_holds(tmp_path: Path) -> None:
    first = make(tmp_path / "features.zarr")
    first.write_shard(1, shard(first, 1))
    again = make(tmp_path / "features.zarr")
    assert again.done.tolist() == [False, True, False, False]
    assert [p.name for p in tmp_path.iterdir()] == ["features.zarr"]


def test_the_cores_are_shared_by_the_processes_that_write() -> None:
    cores = len(os.sched_getaffinity(0))
    for writers in (1, 2, 3, 1000):
        threads = set_codec_threads(writers)
        assert threads == blosc.get_nthreads() == max(1, cores // writers)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from helpers.store_rows import FeatureStore, shard
store = FeatureStore.open(Path({path!r}), write=True)
print("ready", flush=True)
sys.stdin.readline()
for index in {shards!r}:
    store.write_shard(index, shard(store, index))
    print(index, flush=True)
"""


def writer(path: Path, shards: list[int]) -> "subprocess.Popen[str]":
    script = WRITER.format(tests=str(TESTS), path=str(path), shards=shards)
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ.copy()
    )


def go(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_on_different_shards_lose_nothing(tmp_path: Path) -> None:
    rows, shards = 16 * ROWS_PER_SHARD, 16
    path = make(tmp_path / "two.zarr", rows).path
    processes = [writer(path, list(range(start, shards, 2))) for start in (0, 1)]
    for process in processes:  # both have started before either writes
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        go(process)
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    alone = make(tmp_path / "one.zarr", rows)
    for index in range(shards):
        alone.write_shard(index, shard(alone, index))
    assert digest(path) == digest(alone.path)


def test_a_killed_writer_loses_at_most_its_shard(tmp_path: Path) -> None:
    rows, shards = 24 * ROWS_PER_SHARD, 24
    path = make(tmp_path / "killed.zarr", rows).path
    seen = 0
    for _ in range(2):
        left = [int(k) for k in np.flatnonzero(~FeatureStore.open(path).done)]
        process = writer(path, left)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        go(process)
        told = [int(process.stdout.readline()) for _ in range(4)]
        time.sleep(0.003)  # somewhere inside the next shard
        process.send_signal(signal.SIGKILL)
        told += [int(line) for line in process.communicate(timeout=60)[0].split()]
        done = FeatureStore.open(path).done
        assert done[told].all()
        # what is done beyond what was told: the one shard in hand
        assert seen + len(told) <= done.sum() <= seen + len(told) + 1
        seen = int(done.sum())
    store = FeatureStore.open(path, write=True)
    assert not store.complete
    for index in np.flatnonzero(~store.done):
        store.write_shard(int(index), shard(store, int(index)))
    whole = make(tmp_path / "whole.zarr", rows)
    for index in range(shards):
        whole.write_shard(index, shard(whole, index))
    assert digest(path) == digest(whole.path)
