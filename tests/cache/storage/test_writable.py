"""Outputs that cannot be written are refused in one line, before work and after it."""

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mixstyle.cache.storage.atomic import atomic_write, write_json
from mixstyle.cache.storage.locks import ShardLocks, locked
from mixstyle.cache.storage.writable import check_file, check_folder
from mixstyle.pipeline.core.errors import MixstyleError


@contextmanager
def no_room() -> Iterator[None]:
    """As on a full disk: files can be made, and take no byte."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(path: Path, folder: bool) -> None:
    with pytest.raises(MixstyleError) as caught:
        (check_folder if folder else check_file)(path)
    assert caught.value.code == "cannot-write"
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("folder", [True, False])
def test_a_look_tells_what_cannot_be_written_and_leaves_nothing(tmp_path: Path, folder: bool) -> None:
    (tmp_path / "a file").write_text("content")
    check = check_folder if folder else check_file
    check(tmp_path / "not" / "there yet" / "out")
    check(tmp_path / "out")
    refused(tmp_path / "a file" / "out" / "x", folder)
    refused(Path("/proc/out/x"), folder)  # takes no files of anybody, root included
    with no_room():
        refused(tmp_path / "out" / "x", folder)
    assert [path.name for path in tmp_path.iterdir()] == ["a file"]
    assert (tmp_path / "a file").read_text() == "content"


def test_a_name_that_no_file_may_have_is_refused_before_the_work(tmp_path: Path) -> None:
    refused(tmp_path / ("n" * 256), folder=False)
    check_file(tmp_path / ("n" * 255))


def test_a_file_is_not_written_over_a_folder_a_pipe_or_a_device(tmp_path: Path) -> None:
    """Who may do so would have a file in the place of /dev/null."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("/dev/null")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "link", Path("/dev/null")):
        refused(path, folder=False)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_the_name_of_an_output_that_goes_to_a_file_is_not_replaced(tmp_path: Path, name: str) -> None:
    """root's `search --json /dev/stdout > s.json` had made a file of the machine's /dev/stdout."""
    look = f"""
from pathlib import Path
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
try:
    check_file(Path({name!r}))
except MixstyleError as error:
    print(error)
"""
    with (tmp_path / "s.json").open("w") as output:
        subprocess.run([sys.executable, "-c", look], stdout=output, check=True)
    assert (tmp_path / "s.json").read_text() == f"{name}: cannot be written: it is a device or a pipe\n"


def test_a_file_behind_a_link_of_the_users_may_be_written(tmp_path: Path) -> None:
    (tmp_path / "old.json").touch()
    (tmp_path / "s.json").symlink_to("old.json")
    check_file(tmp_path / "s.json")
    check_file(Path("/dev/shm/s.json"))


def test_writing_on_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})
    before = path.read_bytes()
    with no_room(), pytest.raises(MixstyleError) as caught:
        write_json(path, {"a": 2})
    assert (caught.value.code, str(path) in str(caught.value)) == ("cannot-write", True)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["x.json"]


def test_a_library_that_keeps_the_reason_to_itself_is_asked_of_the_disk(tmp_path: Path) -> None:
    def write(samples: np.ndarray) -> None:
        with atomic_write(tmp_path / "x.wav") as temporary:
            soundfile.write(temporary, samples, 44_100, format="WAV")

    with no_room(), pytest.raises(MixstyleError) as caught:
        write(np.zeros(100_000))
    assert caught.value.code == "cannot-write"
    with pytest.raises(soundfile.LibsndfileError):  # another mistake stays what it is
        write(np.zeros((10, 5000)))


def test_a_file_that_is_read_inside_is_not_told_as_written(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError), atomic_write(tmp_path / "out" / "x"):
        (tmp_path).read_bytes()


@pytest.mark.parametrize("place", ["a file/out", "/proc/out"])
def test_locks_in_a_folder_that_takes_no_files_are_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    for lock in (locked(tmp_path / place, "mixstyle x"), ShardLocks(tmp_path / place / "x", "mixstyle x")):
        with pytest.raises(MixstyleError) as caught, lock:
            pass
        assert caught.value.code == "cannot-write"


def test_a_path_back_from_a_folder_that_is_not_there_is_looked_at_where_it_leads(tmp_path: Path) -> None:
    (tmp_path / "song.wav").touch()
    with pytest.raises(MixstyleError) as error:
        check_file(tmp_path / "not there" / ".." / "song.wav" / "d.json")
    assert error.value.code == "cannot-write"
    assert [path.name for path in tmp_path.iterdir()] == ["song.wav"]
