"""Speed and locks of a folder."""

import errno
import fcntl
import os
import time
from pathlib import Path

import pytest

from mixstyle.cache.storage.disk_trial import disk_speed, locks_work, nearest_folder


def test_speeds_are_bytes_over_the_time_that_it_took_and_nothing_is_left(tmp_path: Path) -> None:
    begin = time.perf_counter()
    found = disk_speed(tmp_path, 2_000_000)
    took_s = time.perf_counter() - begin
    assert found.bytes == 2_000_000
    # each part took no longer than both and the making of the bytes together
    assert min(found.write_mb_per_s, found.read_mb_per_s) > 2 / took_s
    assert 2 / found.write_mb_per_s + 2 / found.read_mb_per_s < took_s
    assert list(tmp_path.iterdir()) == []


def test_every_byte_is_brought_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(os, "fsync", lambda handle: synced.append(os.fstat(handle).st_size))
    disk_speed(tmp_path, 20_000_000)
    assert synced == [8_000_000, 16_000_000, 24_000_000]


def test_locks_that_work_and_locks_that_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert locks_work(tmp_path)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "lockf", refuse)
        assert not locks_work(tmp_path)
    monkeypatch.setattr(fcntl, "lockf", lambda *_: None)  # granted, and seen by no other process
    assert not locks_work(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_nearest_folder_above(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert nearest_folder(tmp_path / "a" / "b") == tmp_path
    assert nearest_folder(tmp_path / "file" / "b") == tmp_path
    assert nearest_folder(tmp_path) == tmp_path
