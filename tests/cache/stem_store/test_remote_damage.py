"""Stems behind a URL: what comes damaged, what is damaged where it is kept, several readers at once, a full disk."""

import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.small_cache import make_cache

from mixstyle.cache.stem_store.remote import ClipFolder, RemoteStemCache, kept_is_whole
from mixstyle.cache.stem_store.stem_cache import CachedClip, StemCache
from mixstyle.cache.stem_store.stream import stream_tracks

READERS, ROUNDS = 6, 4


@pytest.fixture(scope="module")
def stems(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("behind") / "stems"
    make_cache(folder, tracks=2, clips=2, clip_s=0.3, validation=0, per_shard=1)
    return folder


def expected(stems: Path, clip: CachedClip) -> np.ndarray:
    return StemCache(stems).read_clip(clip)


def damage_answers(remote: RemoteStemCache, monkeypatch: pytest.MonkeyPatch, how_many: int) -> list[str]:
    """Flips a bit in the next answers; the paths that were asked for."""
    read, asked = remote._store.fs.cat_file, []

    def cat_file(path: str, **span: Any) -> bytes:
        asked.append(path)
        data = bytearray(read(path, **span))
        if len(asked) <= how_many:
            data[len(data) // 2] ^= 8
        return bytes(data)

    monkeypatch.setattr(remote._store.fs, "cat_file", cat_file)
    return asked


def test_a_clip_that_comes_damaged_is_asked_for_again_and_not_kept(
    stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)
    clip = remote.tracks[1].clips[0]
    asked = damage_answers(remote, monkeypatch, 1)
    for _ in range(3):
        np.testing.assert_array_equal(remote.read_clip(clip, 10, 500), expected(stems, clip)[..., 10:510])
    assert len(asked) <= 3  # damaged, again, and perhaps once more to be kept


def test_json_that_comes_damaged_is_asked_for_again(
    stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)
    asked = damage_answers(remote, monkeypatch, 1)
    track = remote.tracks[0]
    assert remote.read_metadata(track) == StemCache(stems).read_metadata(track)
    assert len(asked) == 2


def test_a_kept_clip_that_is_damaged_is_fetched_again(stems: Path, tmp_path: Path) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)
    clip = remote.tracks[0].clips[1]
    remote.read_clip(clip)
    (kept,) = (path for path in (tmp_path / "kept" / "clips").rglob("*") if path.is_file())
    whole = kept.read_bytes()
    assert kept_is_whole(kept)
    kept.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert not kept_is_whole(kept)
    np.testing.assert_array_equal(remote.read_clip(clip), expected(stems, clip))
    assert kept.read_bytes() == whole


def test_a_block_that_comes_damaged_costs_no_clip(stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)
    track = remote.tracks[0]
    middle = track.clips[0].offset + track.clips[0].size // 2
    read = remote._store.fs.cat_file

    def cat_file(path: str, start: int, end: int) -> bytes:
        data = bytearray(read(path, start=start, end=end))
        if start == 0:  # the block, and not the clip alone
            data[middle] ^= 8
        return bytes(data)

    monkeypatch.setattr(remote._store.fs, "cat_file", cat_file)
    ((_, flacs),) = stream_tracks(remote, [[track]])
    for clip in track.clips:
        np.testing.assert_array_equal(remote.decode(clip, flacs[clip.row]), expected(stems, clip))


def test_clips_kept_by_versions_before_are_read(stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)
    clip = remote.tracks[0].clips[0]
    remote.read_clip(clip)
    (kept,) = (path for path in (tmp_path / "kept" / "clips").rglob("*") if path.is_file())
    kept.write_bytes(kept.read_bytes()[:-8])
    asked = damage_answers(remote, monkeypatch, 0)
    np.testing.assert_array_equal(remote.read_clip(clip), expected(stems, clip))
    assert asked == []


def test_several_readers_may_begin_with_one_empty_folder(
    stems: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    url, failed = f"file://{stems}", []
    for attempt in range(ROUNDS):
        start = threading.Barrier(READERS)

        def read(folder: Path = tmp_path / str(attempt), start: threading.Barrier = start) -> None:
            start.wait()
            try:
                remote = RemoteStemCache(url, folder, 1e9)
                remote.read_clip(remote.tracks[0].clips[0])
            except Exception as error:  # noqa: BLE001 (whatever it is, it is counted)
                failed.append(repr(error))

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    assert failed == []
    assert not list(tmp_path.rglob("*.partial"))
    record_property("tried", ROUNDS * READERS)


def test_a_full_disk_costs_what_would_be_kept_and_no_more(
    stems: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remote = RemoteStemCache(f"file://{stems}", tmp_path / "kept", 1e9)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    for clip in remote.tracks[0].clips:
        assert remote.read_clip(clip).shape[0] == 4
    assert capsys.readouterr().err.count("are not kept there") == 1
    assert not [path for path in (tmp_path / "kept" / "clips").rglob("*") if path.is_file()]
    ClipFolder(tmp_path / "kept", 100).put("ab" * 32, b"x")
