"""A descriptor store of which any file was changed, cut or lost: nothing else is ever read from it without a word."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.digests import digest
from helpers.store_rows import shard

from mixstyle.cache.feature_store.layout import RowKeys
from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION

SHARDS, ROWS_PER_SHARD, ROWS = 2, 3, 5
CRC_BYTES = 4
UNNOTICED = "silently different"
TOLD = {"shards [0]", "shards [1]", "shards [0, 1]", "statistics", "not finished", "damaged-file", "wrong-file"}
TOLD |= {"unknown-version"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that is finished; one row in each shard has a reason in place of descriptors."""
    tracks = [f"{row // 3:012x}" for row in range(ROWS)]
    store = FeatureStore.create(
        tmp_path_factory.mktemp("whole") / "features.zarr",
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=RowKeys(
            [f"{track}_{row % 3}" for row, track in enumerate(tracks)],
            tracks,
            [f"日本 {track}.mp3" for track in tracks],
            ["train"] * ROWS,
        ),
        rows_per_shard=ROWS_PER_SHARD,
        made_with={"separate": {"clip_s": 10.0}},
    )
    for index in range(SHARDS):
        store.write_shard(index, shard(store, index))
    store.write_statistics(*store.statistics())
    return store.path


@pytest.fixture(scope="module")
def old(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same store as versions without checksums wrote it: the codec crc32c adds 4 bytes to a chunk and no more."""
    path = tmp_path_factory.mktemp("old") / "features.zarr"
    shutil.copytree(whole, path)
    shutil.rmtree(path / "rows_sha256")
    group = json.loads((path / "zarr.json").read_text())
    del group["attributes"]["checksum"], group["attributes"]["keys_sha256"]
    arrays = group["consolidated_metadata"]["metadata"]
    del arrays["rows_sha256"]
    for name, metadata in arrays.items():
        assert metadata["codecs"].pop()["name"] == "crc32c"
        (path / name / "zarr.json").write_text(json.dumps(metadata))
        for chunk in (path / name / "c").rglob("*"):
            if chunk.is_file():
                chunk.write_bytes(chunk.read_bytes()[:-CRC_BYTES])
    (path / "zarr.json").write_text(json.dumps(group))
    return path


def content(path: Path) -> list[str]:
    """All that a store tells, as text."""
    store = FeatureStore.open(path)
    statistics = store.stored_statistics()
    return [
        store.to_dataframe().to_csv(),
        json.dumps([store.names, store.made_with, store.done.tolist(), store.shard_sha256]),
        "" if statistics is None else json.dumps([part.tolist() for part in statistics]),
    ]


def trouble(path: Path, expected: list[str]) -> str:
    """What tells of the damage; empty where none does. Statistics that are lost follow from the rows."""
    try:
        store = FeatureStore.open(path)
        if damaged := store.damaged_shards():
            return f"shards {sorted(damaged)}"
        if store.statistics_differ():
            return "statistics"
        if not store.complete or store.stored_statistics() is None:
            return "not finished"
        return UNNOTICED if content(path) != expected else ""
    except MixstyleError as error:
        return error.code if "\n" not in str(error) else "more than one line"


def flipped(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def damages() -> dict[str, Callable[[Path], object]]:
    rng = np.random.default_rng(5)
    return {
        "flip": lambda path: path.write_bytes(flipped(path.read_bytes(), rng)),
        "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "empty": lambda path: path.write_bytes(b""),
        "delete": Path.unlink,
    }


def tried(source: Path, to: Path, kinds: list[str]) -> dict[str, str]:
    """What came of each damage to each file, which is whole again before the next."""
    shutil.copytree(source, to)
    found, expected = {}, content(source)
    for kind in kinds:
        damage = damages()[kind]
        for file in sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file()):
            damage(to / file)
            found[f"{kind} {file}"] = trouble(to, expected)
            shutil.copyfile(source / file, to / file)
    return found


def test_no_file_of_a_store_is_changed_or_lost_unnoticed(whole: Path, tmp_path: Path) -> None:
    found = tried(whole, tmp_path / "features.zarr", ["flip", "cut", "empty", "delete"])
    assert len(found) > 100
    assert {name: told for name, told in found.items() if told not in TOLD} == {}


def test_a_lost_or_cut_file_of_an_old_store_is_noticed(old: Path, tmp_path: Path) -> None:
    assert FeatureStore.open(old).damaged_shards() == {}
    found = tried(old, tmp_path / "features.zarr", ["cut", "empty", "delete"])
    assert {name: told for name, told in found.items() if told not in TOLD} == {}


def test_an_old_store_reads_the_same(whole: Path, old: Path) -> None:
    assert content(old) == content(whole)
    assert FeatureStore.open(old).fingerprint == FeatureStore.open(whole).fingerprint


@pytest.mark.parametrize("kind", ["flip", "cut", "delete"])
@pytest.mark.parametrize("name", ["descriptors/c/1/0", "start_s/c/1", "reason/c/1", "rows_sha256/c/1"])
def test_a_damaged_shard_is_named_and_written_anew(whole: Path, tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / "features.zarr"
    shutil.copytree(whole, path)
    damages()[kind](path / name)
    store = FeatureStore.open(path, write=True)
    damaged = store.damaged_shards()
    assert list(damaged) == [1]
    assert not damaged[1].startswith("damaged"), "whoever tells it says so"
    assert not any(word in damaged[1] for word in ("Stored", "b'", 'b"')), damaged[1]
    store.write_shard(1, shard(store, 1))
    assert store.damaged_shards() == {}
    assert digest(path) == digest(whole)


@pytest.mark.parametrize("name", ["clip_id/c/0", "split/c/0", "descriptors/zarr.json", "zarr.json"])
def test_what_no_shard_fills_is_to_be_rebuilt(whole: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "features.zarr"
    shutil.copytree(whole, path)
    (path / name).unlink()
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(path).damaged_shards()
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("features", "--rebuild"))


@pytest.mark.parametrize("damage", ["cut", "empty", "delete"])
def test_the_file_that_is_damaged_is_named_in_whole(whole: Path, tmp_path: Path, damage: str) -> None:
    """Also in a folder of a long name: nothing of the line is cut off."""
    path = tmp_path / ("long name " * 9) / "features.zarr"
    shutil.copytree(whole, path)
    damages()[damage](path / "start_s" / "zarr.json")
    with pytest.raises(MixstyleError) as caught:
        FeatureStore.open(path)
    message = caught.value.message
    assert (caught.value.code, "start_s/zarr.json" in message, "\n" in message) == ("damaged-file", True, False)
    assert message.count("(") == message.count(")"), message
    assert not message.endswith("..."), message
