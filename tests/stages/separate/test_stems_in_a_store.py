"""Stems kept behind s3://, on a real server on loopback: written as into a folder, also where requests go wrong."""

import os
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.s3_server import BUCKET, objects, serving
from helpers.small_separator import hashes, profile, write_songs
from helpers.store_workers import check_objects, work, write_local

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.separate.stage import dry_run, separate
from mixstyle.stages.separate.status import separate_status
from mixstyle.stages.settings.places import open_shards
from mixstyle.stages.settings.profile import Settings, from_plain, load_settings, plain
from mixstyle.stages.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> StemCache:
    return write_local(tmp_path_factory.mktemp("local") / "stems")


def on_machine(folder: Path, settings: Settings) -> Settings:
    """The settings on another machine: it has a folder of its own for what is behind URLs."""
    given = plain(settings)
    given["train"]["stems_cache_dir"] = str(folder)
    return from_plain(given)


@pytest.mark.slow
def test_separate_keeps_in_a_store_what_it_writes_into_a_folder(server: str, tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 4)
    (music / "broken.mp3").write_bytes(bytes(5000))
    here = profile(tmp_path, music)
    separate(here)
    there = profile(tmp_path, music, stems_dir=f"s3://{BUCKET}/stems")
    assert not separate_status(on_machine(tmp_path / "one", there))[1].done
    assert dry_run(on_machine(tmp_path / "one", there)).shards_done == 0
    made = separate(on_machine(tmp_path / "one", there), num_shards=3)
    assert (made.shards, made.shards_made) == (3, 1)
    state, status = separate_status(on_machine(tmp_path / "two", there))
    assert (status.state, state is not None and len(state.shards)) == ("partly done", 1)
    assert separate(on_machine(tmp_path / "two", there)).shards_made == 2
    assert separate(on_machine(tmp_path / "one", there)).shards_made == 0

    found = objects("stems")
    cache = StemCache(here.separate.stems_dir)
    for name, data in hashes(here.separate.stems_dir, ("*.json", "*.gz", "*.csv")).items():
        assert found.pop(name) == data, name
    for shard in cache.shards:
        assert found.pop(f"stems-{shard.shard:06d}.{shard.sha256[:16]}.tar") == shard.tar.read_bytes()
    assert not found
    remote = open_shards(on_machine(tmp_path / "three", there), there.separate.stems_dir)
    assert remote.fingerprint == cache.fingerprint
    assert separate_status(on_machine(tmp_path / "two", there))[1].state == "done"
    copied = tmp_path / "copied"
    copied.mkdir()
    for name, data in objects("stems").items():
        (copied / name).write_bytes(data)
    StemCache(copied).verify()
    assert StemCache(copied).fingerprint == cache.fingerprint

    changed = profile(tmp_path, music, stems_dir=f"s3://{BUCKET}/stems", seed=1)
    with pytest.raises(MixstyleError) as caught:
        separate(on_machine(tmp_path / "one", changed))
    assert (caught.value.code, f"s3://{BUCKET}/stems:" in str(caught.value)) == ("stale", True)
    assert separate(on_machine(tmp_path / "one", changed), rebuild=True).shards_made == 3
    assert open_shards(on_machine(tmp_path / "two", changed), changed.separate.stems_dir).settings["seed"] == 1
    assert len(objects("stems")) == 3 + 3 + 3


@pytest.mark.slow
def test_verify_names_a_damaged_tar_and_takes_it_away(server: str, tmp_path: Path, local: StemCache) -> None:
    settings = profile(tmp_path, tmp_path, stems_dir=f"s3://{BUCKET}/verified")
    settings = on_machine(tmp_path / "kept", settings)
    work(f"s3://{BUCKET}/verified", tmp_path / "worker")
    assert not verify(settings).damages
    (name,) = (name for name in objects("verified") if name.startswith("stems-000001.") and name.endswith(".tar"))
    whole = objects("verified")[name]
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    fs.pipe_file(f"{BUCKET}/verified/{name}", whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:])
    (damage,) = verify(settings).damages
    assert str(damage.path).endswith("verified/stems-000001.tar")
    assert verify(settings, repair=True).damages[0].repaired
    assert "stems-000001.json" not in objects("verified")
    assert work(f"s3://{BUCKET}/verified", tmp_path / "worker") == 1
    assert check_objects(objects("verified"), local) == 0
    assert not verify(settings).damages


@pytest.mark.slow
def test_a_store_that_does_not_answer_or_is_not_there_is_told_in_a_line(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    music = write_songs(tmp_path / "music", 3)
    for url, code in ((f"s3://no-such-bucket-{os.getpid()}/stems", "not-found"), ("nosuch://x/stems", "bad-setting")):
        settings = on_machine(tmp_path / "kept", profile(tmp_path, music, stems_dir=url))
        with pytest.raises(MixstyleError) as caught:
            separate(settings)
        assert (caught.value.code, url in str(caught.value), "\n" in str(caught.value)) == (code, True, False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    settings = on_machine(tmp_path / "kept", profile(tmp_path, music, stems_dir=f"s3://{BUCKET}/stems"))
    assert separate_status(settings)[1].state == "cannot be read"


def test_only_some_outputs_may_be_behind_urls() -> None:
    with pytest.raises(MixstyleError) as caught:
        load_settings("demo", ["train.log_dir=s3://bucket/logs"])
    assert caught.value.code == "bad-setting"
    settings = load_settings("demo", ["separate.stems_dir=file:///tmp/stems", "remix.remix_dir=s3://bucket/bank"])
    assert settings.separate.stems_dir == Path("/tmp/stems")
    assert plain(settings)["remix"]["remix_dir"] == "s3://bucket/bank"
    assert from_plain(plain(settings)) == settings
