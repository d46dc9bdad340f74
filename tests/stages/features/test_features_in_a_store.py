"""Descriptors kept behind s3://, on a real server on loopback: the bytes of a folder, read by what reads folders."""

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr
from helpers.mixed_cache import make_stems, settings_of
from helpers.s3_server import BUCKET, serving
from helpers.store_rows import shard as rows_of
from helpers.store_workers import in_process

from mixstyle.cache.feature_store.place import is_of_store
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.features.status import features_status
from mixstyle.stages.settings.places import place_of_features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.verify import verify

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
SHARDS = 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stems and the descriptors that one run makes of them."""
    folder = tmp_path_factory.mktemp("local")
    make_stems(folder / "stems")
    features(settings_of(folder))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def on_machine(finished: Path, folder: Path, url: str) -> Settings:
    """Settings of a machine that has the stems in a folder and nothing else."""
    settings = settings_of(finished)
    return replace(
        settings,
        features=replace(settings.features, features_path=Path(url)),
        train=replace(settings.train, stems_cache_dir=folder),
    )


def kept(name: str) -> dict[str, bytes]:
    """The objects below a folder of the bucket, by their whole names below it."""
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    root = f"{BUCKET}/{name}"
    return {path.removeprefix(f"{root}/"): data for path, data in fs.cat(fs.find(root)).items()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def put(name: str, data: bytes) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/{name}", data)


def open_store(settings: Settings, write: bool = False) -> FeatureStore:
    return FeatureStore.open(place_of_features(settings, settings.features.features_path), write=write)


def test_objects_are_the_files_of_a_folder_whoever_makes_which_shard(
    server: str, finished: Path, tmp_path: Path
) -> None:
    url = f"s3://{BUCKET}/shared.zarr"
    one, two = (on_machine(finished, tmp_path / name, url) for name in ("one", "two"))
    assert features_status(one, None)[1].state == "not started"
    with pytest.raises(MixstyleError) as caught:
        open_described_stems(one)
    assert (caught.value.code, url in str(caught.value)) == ("step-missing", True)

    assert features(one, shard_index=0, num_shards=2).shards_computed == 2
    store, status = features_status(two, None)
    assert (status.state, store is not None and store.done.tolist()) == ("partly done", [True, False, True, False])
    made = features(two)
    assert (made.shards_computed, str(made.features_path).endswith("shared.zarr")) == (2, True)
    assert features(one).shards_computed == 0
    assert kept("shared.zarr") == files_of(finished / "features.zarr")
    assert features_status(one, None)[1].state == "done"
    assert not verify(one).damages

    _, read = open_described_stems(on_machine(finished, tmp_path / "three", url))
    local = FeatureStore.open(finished / "features.zarr")
    np.testing.assert_array_equal(read.values(), local.values())
    assert read.fingerprint == local.fingerprint
    by_zarr = zarr.open_group(url, mode="r", zarr_format=3)["descriptors"]
    assert isinstance(by_zarr, zarr.Array)
    np.testing.assert_array_equal(np.asarray(by_zarr[:]), local.values())


def test_a_store_of_other_stems_is_refused_and_made_anew_on_request(
    server: str, finished: Path, tmp_path: Path
) -> None:
    url = f"s3://{BUCKET}/rebuilt.zarr"
    here = on_machine(finished, tmp_path / "kept", url)
    features(here)
    put("rebuilt.zarr/note.txt", b"not ours")
    other = tmp_path / "other"
    make_stems(other / "stems", clips=2)
    changed = on_machine(other, tmp_path / "kept", url)
    with pytest.raises(MixstyleError) as caught:
        features(changed)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("features", "--rebuild"))
    assert features(changed, rebuild=True).shards_computed == SHARDS
    features(settings_of(other))
    assert kept("rebuilt.zarr") == {**files_of(other / "features.zarr"), "note.txt": b"not ours"}


def test_damage_is_named_and_repaired(
    server: str, finished: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    url = f"s3://{BUCKET}/damaged.zarr"
    here = on_machine(finished, tmp_path / "kept", url)
    features(here)
    whole = kept("damaged.zarr")
    name = "descriptors/c/1/0"
    for damaged in (whole[name][:-9], whole[name][:40] + bytes([whole[name][40] ^ 1]) + whole[name][41:]):
        put(f"damaged.zarr/{name}", damaged)
        (damage,) = verify(here).damages
        assert str(damage.path).endswith("damaged.zarr")
        assert verify(here, repair=True).damages[0].repaired
        assert name not in kept("damaged.zarr")
        assert features(here).shards_computed == 1
        assert kept("damaged.zarr") == whole
    fsspec.filesystem("s3", skip_instance_cache=True).rm_file(f"{BUCKET}/damaged.zarr/start_s/c/2")
    assert features_status(here, None)[1].state == "damaged"
    assert features(here).shards_computed == 1  # by itself
    assert kept("damaged.zarr") == whole
    for path in (tmp_path / "kept").rglob("c/1/0"):  # the copy of this machine: fetched again
        path.write_bytes(b"nothing")
    assert not verify(here).damages
    record_property("tried", 4)


def test_a_url_of_other_things_is_refused_and_left(server: str, finished: Path, tmp_path: Path) -> None:
    put("music/song.flac", b"music")
    here = on_machine(finished, tmp_path / "kept", f"s3://{BUCKET}/music")
    for rebuild in (False, True):
        with pytest.raises(MixstyleError) as caught:
            features(here, rebuild=rebuild)
        assert caught.value.code == "wrong-file"
    assert kept("music") == {"song.flac": b"music"}
    nowhere = on_machine(finished, tmp_path / "kept", f"s3://no-such-bucket-{os.getpid()}/a.zarr")
    with pytest.raises(MixstyleError) as caught:
        features(nowhere)
    assert caught.value.code == "not-found"


def test_forked_readers_need_no_server(server: str, finished: Path, tmp_path: Path) -> None:
    """Loader workers are forked: clients of a parent hang in them. They read the copy."""
    url = f"s3://{BUCKET}/forked.zarr"
    here = on_machine(finished, tmp_path / "kept", url)
    features(here)
    store = open_store(here)
    expected = FeatureStore.open(finished / "features.zarr").rows([0, 5])

    def read() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            np.testing.assert_array_equal(store.rows([0, 5]), expected)

    assert os.waitstatus_to_exitcode(os.waitpid(in_process(read), 0)[1]) == 0


def test_processes_of_one_machine_fill_one_copy_in_turns(server: str, finished: Path, tmp_path: Path) -> None:
    url = f"s3://{BUCKET}/turns.zarr"
    here = on_machine(finished, tmp_path / "kept", url)
    features(here, shard_index=3, num_shards=SHARDS)
    made = open_store(here, write=True)
    written = [rows_of(made, place) for place in range(SHARDS)]

    def fill(first: int) -> None:
        for _ in range(3):
            store = open_store(here, write=True)
            for place in (first, first + 2):
                store.write_shard(place, written[place])

    pids = [in_process(lambda first=first: fill(first)) for first in (0, 1)]
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    shutil.rmtree(tmp_path / "kept")
    store = open_store(here)
    assert store.complete
    assert not store.damaged_shards()
    np.testing.assert_array_equal(store.values(), np.concatenate([rows.values for rows in written]))


def test_names_of_a_store() -> None:
    ours = ("zarr.json", "machines.json", "done/zarr.json", "descriptors/c/12/0", "reason/c/3")
    assert all(map(is_of_store, ours))
    assert not any(map(is_of_store, ("stems-000000.json", "done", "other/c/0", "a/zarr.json", "descriptors/x", "")))
