"""Locks on folders and on shards, between processes."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixstyle.cache.storage import locks as lock_module
from mixstyle.cache.storage.atomic import atomic_write, write_bytes
from mixstyle.cache.storage.locks import ShardLocks, locked
from mixstyle.pipeline.core.errors import MixstyleError

HOLDER = """
import sys
from pathlib import Path
from mixstyle.cache.storage.atomic import atomic_write, write_bytes
from mixstyle.cache.storage.locks import ShardLocks
with ShardLocks(Path(sys.argv[1]), "mixstyle features") as locks:
    with locks.mutex():
        print(locks.take([3, 5, 4000]), flush=True)
        sys.stdin.readline()
    print("mutex open", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that holds shards 3, 5 and 4000, and at first the mutex."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "[3, 5, 4000]\n"
    return process


def tell(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_shards_that_another_process_holds_cannot_be_taken_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    process = holder(path)
    with ShardLocks(path, "mixstyle features") as locks:
        assert locks.take([2, 3, 4, 5, 6, 4000]) == [2, 4, 6]
        with pytest.raises(MixstyleError) as caught, locks.all():
            pass
        assert caught.value.code == "in-use"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert locks.take([3, 5, 4000]) == [3, 5, 4000]
        with locks.all():
            pass
    assert [p.name for p in tmp_path.iterdir()] == [".features.zarr.lock"]
    assert (tmp_path / ".features.zarr.lock").stat().st_size == 0


def test_one_process_at_a_time_holds_the_mutex(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    process = holder(path)
    waiting = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(0.5)
    tell(process)
    assert waiting.stdout is not None
    # It came in only when the first was out: the first still has the shards, so none is left.
    assert waiting.stdout.readline() == b"[]\n"
    for each in (process, waiting):
        each.kill()
        each.communicate(timeout=30)


def test_a_second_holder_in_one_process_is_refused(tmp_path: Path) -> None:
    with (
        ShardLocks(tmp_path / "a", "mixstyle features"),
        pytest.raises(MixstyleError) as caught,
        ShardLocks(tmp_path / "a", "mixstyle features"),
    ):
        pass
    assert caught.value.code == "in-use"
    with ShardLocks(tmp_path / "a", "mixstyle features") as locks:
        assert locks.take([0]) == [0]


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import fcntl, os, sys, time\n"
        f"handle = os.open({str(tmp_path / '.lock')!r}, os.O_CREAT | os.O_RDWR)\n"
        "fcntl.flock(handle, fcntl.LOCK_EX)\nprint('held', flush=True)\ntime.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(MixstyleError) as caught, locked(tmp_path, "mixstyle separate"):
            pytest.fail("got in")
        assert caught.value.code == "in-use"
        holder.kill()
        holder.wait()
        with locked(tmp_path, "mixstyle separate"):
            pass


FORKED = """
import os, sys, time
from pathlib import Path
from mixstyle.cache.storage.atomic import atomic_write, write_bytes
from mixstyle.cache.storage.locks import locked
with locked(Path(sys.argv[1]), "mixstyle train"):
    child = os.fork()
    if child == 0:
        os.close(1)
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    time.sleep(60)
"""


def test_a_killed_process_frees_its_folder_though_processes_that_it_forked_go_on(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", FORKED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    try:
        with pytest.raises(MixstyleError) as caught, locked(tmp_path, "mixstyle train"):
            pass
        assert caught.value.code == "in-use"
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        os.kill(child, 0)  # it is there still
        with locked(tmp_path, "mixstyle train"):
            pass
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_process_that_locks_as_versions_before_did_is_seen(tmp_path: Path) -> None:
    with (tmp_path / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(MixstyleError) as caught, locked(tmp_path, "mixstyle train"):
            pass
        assert caught.value.code == "in-use"
    with locked(tmp_path, "mixstyle train"):
        pass


def test_where_there_are_no_locks_it_is_told_and_the_loser_of_a_race_fails_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    for _ in range(2):
        with locked(tmp_path, "mixstyle train"):
            pass
    with ShardLocks(tmp_path / "stems", "mixstyle separate") as locks:
        assert locks.take([1, 2]) == [1, 2]
        assert not locks.guards
    monkeypatch.undo()
    with ShardLocks(tmp_path / "others", "mixstyle separate") as locks:
        assert locks.take([1, 2]) == [1, 2]
        assert locks.guards
    assert capsys.readouterr().err.count("without locks") == 2  # once for each lock file
    path = tmp_path / "settings.json"

    def lose() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("mine")
            write_bytes(path, b"another's")  # under the same temporary name, as another process does

    with pytest.raises(MixstyleError) as caught:
        lose()
    assert caught.value.code == "in-use"
    assert path.read_bytes() == b"another's"


def refuse(folder: Path, left: str = "") -> None:
    """A command that is refused while it holds the lock. left: a file that it has made before."""

    def command() -> None:
        with locked(folder, "mixstyle x"):
            if left:
                (folder / left).touch()
            raise MixstyleError("of no use", code="misfit")

    with pytest.raises(MixstyleError) as caught:
        command()
    assert caught.value.code == "misfit"


def test_a_folder_that_was_made_for_its_lock_goes_with_it_where_the_work_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "a" / "b")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "a").mkdir()
    refuse(tmp_path / "a" / "b")
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]  # which was there
    refuse(tmp_path / "a")
    assert (tmp_path / "a" / ".lock").exists(), "others may have opened it"
    refuse(tmp_path / "c", left="work")
    assert (tmp_path / "c" / "work").exists()


def test_a_lock_that_was_taken_away_meanwhile_holds_nobody_off_and_nobody_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening and locking it another process may remove it: its lock would be on a file that nobody finds."""
    taken = lock_module._taken

    def removed(handle: int, path: Path) -> bool:
        path.unlink()
        return taken(handle, path)

    monkeypatch.setattr(lock_module, "_taken", removed)
    with pytest.raises(MixstyleError) as caught, locked(tmp_path, "mixstyle x"):
        pass
    assert caught.value.code == "in-use"
    monkeypatch.undo()
    with locked(tmp_path, "mixstyle x"):
        pass
