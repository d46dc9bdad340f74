"""ShardLocks on pieces of work, between processes."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.pipeline.core.errors import MixstyleError

HOLDER = """
import sys
from pathlib import Path
from mixstyle.cache.storage.locks import ShardLocks
with ShardLocks(Path(sys.argv[1]), "mixstyle features") as locks:
    with locks.mutex():
        print(locks.take([3, 5, 4000]), flush=True)
        sys.stdin.readline()
    print("mutex open", flush=True)
    sys.stdin.readline()
"""


def holder(path: Path) -> "subprocess.Popen[str]":
    """Another process that holds pieces 3, 5 and 4000, and at first the mutex."""
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


def test_pieces_that_another_process_holds_cannot_be_taken_until_it_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    process = holder(path)
    with ShardLocks(path, "mixstyle features") as locks:
        assert locks.take([2, 3, 4, 5, 6, 4000]) == [2, 4, 6]
        with pytest.raises(MixstyleError, match="another `mixstyle features` is writing it"), locks.all():
            pass
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=30)
        assert locks.take([3, 5, 4000]) == [3, 5, 4000]
        with locks.all():
            pass
    assert [p.name for p in tmp_path.iterdir()] == [".features.zarr.lock"]
    assert (tmp_path / ".features.zarr.lock").stat().st_size == 0


def test_one_process_at_a_time_is_behind_the_door(tmp_path: Path) -> None:
    path = tmp_path / "features.zarr"
    process = holder(path)
    waiting = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(0.5)
    tell(process)
    assert waiting.stdout is not None
    # It came in only when the first was out: the first still has the pieces, so none is left.
    assert waiting.stdout.readline() == b"[]\n"
    for each in (process, waiting):
        each.kill()
        each.communicate(timeout=30)


def test_a_second_holder_in_one_process_is_refused(tmp_path: Path) -> None:
    with (
        ShardLocks(tmp_path / "a", "mixstyle features"),
        pytest.raises(MixstyleError, match="another `mixstyle features`"),
        ShardLocks(tmp_path / "a", "mixstyle features"),
    ):
        pass
    with ShardLocks(tmp_path / "a", "mixstyle features") as locks:
        assert locks.take([0]) == [0]
