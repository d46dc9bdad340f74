"""Stems behind a URL: an S3 server on loopback, a server that stumbles, a local cache that stays within its bound."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, rows_of, settings_of

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.cache.stem_store.remote import ClipFolder, RemoteStemCache
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.features.stage import features
from mixstyle.stages.train.stage import train

BUCKET = "mixes"
KEPT_BYTES = 3000 + 8
"""Of a kept file of 3000 bytes: its checksum comes after it."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    features(settings_of(folder / "inputs"))
    return folder


@pytest.fixture(scope="module")
def s3(local: Path) -> Iterator[str]:
    """A server that speaks S3 over HTTP on loopback, with the shards in a bucket; gives their URL."""
    pytest.importorskip("s3fs")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
    }
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket=BUCKET)
    for path in (local / "stems").iterdir():
        if path.suffix in (".json", ".tar"):
            client.upload_file(str(path), BUCKET, f"small/{path.name}")
    yield f"s3://{BUCKET}/small"
    server.stop()
    os.environ.clear()
    os.environ.update(before)


def same(remote: StemCache, local: StemCache) -> None:
    assert [track.track_id for track in remote.tracks] == [track.track_id for track in local.tracks]
    for one, other in zip(remote.tracks, local.tracks, strict=True):
        for clip, expected in zip(one.clips, other.clips, strict=True):
            np.testing.assert_array_equal(remote.read_clip(clip, 100, 5000), local.read_clip(expected, 100, 5000))
        assert remote.read_metadata(one) == local.read_metadata(other)


def test_a_bucket_holds_what_a_folder_holds(s3: str, local: Path, tmp_path: Path) -> None:
    remote = RemoteStemCache(s3, tmp_path / "kept", 1e9)
    assert remote.fingerprint == StemCache(local / "stems").fingerprint
    same(remote, StemCache(local / "stems"))
    remote.verify()


@pytest.mark.slow
def test_training_from_a_bucket_is_training_from_a_folder(s3: str, local: Path, tmp_path: Path) -> None:
    ends = []
    bucket = {"stems_url": s3, "stems_cache_dir": str(tmp_path / "kept"), "reader": "random"}
    for name, more in (("folder", {}), ("bucket", bucket)):
        # workers are processes: connections must not be carried into them
        train(settings_of(local / name, num_epochs=1, workers=2, **more))
        ends.append(load_checkpoint(local / name / "ckpt" / "final_model.pt")["encoder"])
        assert len(rows_of(local / name)) == 2
    assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[0])


def test_what_was_read_is_not_asked_for_again(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteStemCache(s3, tmp_path / "kept", 1e9)
    clip = remote.tracks[0].clips[0]
    first = remote.read_clip(clip)
    again = RemoteStemCache(s3, tmp_path / "kept", 1e9)
    asked: list[str] = []
    monkeypatch.setattr(again._store.fs, "cat_file", lambda path, **_: asked.append(path))
    np.testing.assert_array_equal(again.read_clip(clip), first)
    assert not asked


def test_a_server_that_stumbles_is_asked_again(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixstyle.cache.storage.remote_store.WAIT_S", 0.001)
    remote = RemoteStemCache(s3, tmp_path / "kept", 1e9)
    read, left = remote._store.fs.cat_file, iter([OSError("reset"), TimeoutError("late")])

    def stumbling(*arguments: object, **more: object) -> bytes:
        error = next(left, None)
        if error is not None:
            raise error
        return read(*arguments, **more)

    monkeypatch.setattr(remote._store.fs, "cat_file", stumbling)
    assert remote.read_clip(remote.tracks[0].clips[0]).shape == (4, 2, round(CLIP_S * 44_100))
    left = iter([OSError("gone")] * 9)
    with pytest.raises(MixstyleError) as caught:
        remote.read_clip(remote.tracks[0].clips[1])
    assert (caught.value.code, "stems-000000.tar" in str(caught.value)) == ("remote", True)


def test_what_is_not_there_is_told_in_a_line(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixstyle.cache.storage.remote_store.WAIT_S", 0.001)
    for url, code in ((f"s3://{BUCKET}/nothing", "not-found"), ("nosuch://x", "bad-setting")):
        with pytest.raises(MixstyleError) as caught:
            RemoteStemCache(url, tmp_path, 1e9)
        assert (caught.value.code, url in str(caught.value)) == (code, True)


def test_a_shard_that_was_replaced_is_noticed(local: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(local / "stems", tmp_path / "stems")
    url = f"file://{tmp_path / 'stems'}"
    same(RemoteStemCache(url, tmp_path / "kept", 1e9), StemCache(local / "stems"))
    tar = tmp_path / "stems" / "stems-000001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-512])
    with pytest.raises(MixstyleError) as caught:
        RemoteStemCache(url, tmp_path / "kept", 1e9)
    assert (caught.value.code, "stems-000001.tar" in str(caught.value)) == ("damaged-file", True)
    tar.write_bytes(whole[:-2000] + bytes(2000))
    if whole[-2000:] == bytes(2000):
        tar.write_bytes(whole[:5000] + b"x" + whole[5001:])
    with pytest.raises(MixstyleError) as caught:
        RemoteStemCache(url, tmp_path / "kept", 1e9).verify()
    assert caught.value.code == "damaged-file"


def test_the_folder_stays_within_its_bound_also_under_several_writers(tmp_path: Path) -> None:
    limit = 200_000
    folder = ClipFolder(tmp_path / "clips", limit)
    rng = np.random.default_rng(0)
    data = {f"{i:064x}"[::-1]: rng.bytes(3000) for i in range(300)}

    def fill(keys: list[str]) -> None:
        own = ClipFolder(tmp_path / "clips", limit)
        for key in keys:
            own.put(key, data[key])

    threads = [threading.Thread(target=fill, args=(list(data)[part::3],)) for part in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = sum(path.stat().st_size for path in (tmp_path / "clips").glob("??/*"))
    # each writer looks after 64 files of its own
    assert held <= limit + 3 * 64 * KEPT_BYTES
    folder.sweep()
    held = sum(path.stat().st_size for path in (tmp_path / "clips").glob("??/*"))
    assert 0.8 * limit < held <= limit
    found = [key for key in data if (got := folder.get(key, 3000)) is not None and got == data[key]]
    assert len(found) * KEPT_BYTES == held
    assert folder.get(found[0], 2999) is None, "another length is another thing"
    folder.put("ab" * 32, rng.bytes(limit + 1))
    assert folder.get("ab" * 32, limit + 1) is None
