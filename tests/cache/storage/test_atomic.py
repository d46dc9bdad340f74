"""Files that are whole or not there."""

import os
import time
from pathlib import Path

import pytest

from mixstyle.cache.storage.atomic import (
    atomic_write,
    drop_scratch,
    read_json,
    scratch_folder,
    sha256_file,
    write_bytes,
    write_json,
    write_text,
)
from mixstyle.pipeline.core.errors import MixstyleError


def test_atomic_write_leaves_the_old_file_when_writing_fails(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file"
    write_bytes(path, b"old")

    def write() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"new, cut sh")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write()
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_text_with_a_name_that_is_no_utf8_is_written_with_backslashes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.csv", "caf\udce9.mp3,音楽\r\n")
    assert (tmp_path / "a.csv").read_bytes() == "caf\\xe9.mp3,音楽\r\n".encode()


@pytest.mark.parametrize("length", [246, 247, 255])
def test_a_name_as_long_as_names_may_be_is_written(tmp_path: Path, length: int) -> None:
    path = tmp_path / f"{'n' * (length - 4)}.png"
    write_bytes(path, b"content")
    assert [(found.name, found.read_bytes()) for found in tmp_path.iterdir()] == [(path.name, b"content")]


def test_the_new_name_appears_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"content")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename across file systems would not be atomic
    assert path.read_bytes() == b"content"


def test_json_of_equal_values_has_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"x": 1, "y": [0.1, None, "\udcff é"]})
    write_json(tmp_path / "b", {"y": [0.1, None, "\udcff é"], "x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert read_json(tmp_path / "a") == {"x": 1, "y": [0.1, None, "\udcff é"]}
    (tmp_path / "a").write_text("{")
    with pytest.raises(MixstyleError) as caught:
        read_json(tmp_path / "a")
    assert caught.value.code == "damaged-file"
    assert str(tmp_path / "a") in str(caught.value)


@pytest.mark.parametrize("read_back", [True, False])
def test_a_temporary_file_that_another_process_took_is_told(tmp_path: Path, read_back: bool) -> None:
    """Two runs where nothing can be locked: the other one's rename took the file, before it is read back or named."""
    path = tmp_path / "a.bin"

    def write() -> None:
        with atomic_write(path) as temporary:
            temporary.write_bytes(b"mine")
            temporary.replace(path)
            if read_back:
                sha256_file(temporary)

    with pytest.raises(MixstyleError) as caught:
        write()
    assert caught.value.code == "in-use"
    assert path.read_bytes() == b"mine"


def test_another_file_that_is_missing_is_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.bin"):
        (tmp_path / "elsewhere").read_bytes()


def test_what_another_process_may_be_making_is_left_alone_where_no_lock_says_that_it_is_not(tmp_path: Path) -> None:
    store, old, other = tmp_path / "a.zarr", tmp_path / ".a.zarr.x.partial", tmp_path / ".b.zarr.x.partial"
    for folder in (old, other):
        folder.mkdir()
        begun_s = time.time() - 90_000  # more than a day ago
        os.utime(folder, (begun_s, begun_s))
    with scratch_folder(store) as begun:
        (begun / "chunk").write_bytes(b"1")
        drop_scratch(store, alone=False)
        assert (begun.is_dir(), old.exists(), other.exists()) == (True, False, True)
        drop_scratch(store)
        assert (begun.exists(), other.exists()) == (False, True)
