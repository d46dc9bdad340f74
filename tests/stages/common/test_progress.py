"""Plain lines of progress: what was counted, and no rate where nothing was; a watcher is told, and may end the work."""

import contextlib
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mixstyle.stages.common import notes
from mixstyle.stages.common import progress as module
from mixstyle.stages.common.progress import Told, progress, remark, say, tell, watched
from mixstyle.stages.common.songs_left_out import LeftOut


@pytest.mark.parametrize(("total", "done", "lines"), [(0, 0, []), (3, 3, ["work: 3/3 songs"])])
def test_nothing_to_do_has_no_rate(capsys: pytest.CaptureFixture[str], total: int, done: int, lines: list[str]) -> None:
    with progress("work", total, "songs", done):
        pass
    assert capsys.readouterr().err.splitlines() == lines


def test_a_remark_that_is_told_once_a_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notes, "_told", None)
    for _ in range(2):
        remark("no command", once="0")
    for _ in range(2):
        notes.begin_notes()
        for line, once in (("a", "1"), ("b", "2"), ("c", "1"), ("d", "")):
            remark(line, once=once)
        remark("d")
    assert capsys.readouterr().err.split() == ["no", "command", "no", "command", *["a", "b", "d", "d"] * 2]


def test_progress_and_remarks_are_no_part_of_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "PLAIN_INTERVAL_S", 0.0)
    with progress("work", 2, "songs") as bar:
        bar.advance()
        say("found")
        bar.advance()
    left_out = LeftOut("work")
    left_out.tell("a.wav", "empty file: 0 bytes")
    left_out.note("b.wav", "cut short: 1 s of 2 s are there")
    left_out.end()
    told = capsys.readouterr()
    assert told.out == "found\n"
    assert [line.split(" ")[1].rstrip(",") for line in told.err.splitlines()] == ["1/2", "2/2", "left", "b.wav:"]


@pytest.mark.parametrize("of", ["stdout", "stderr", "both"])
def test_what_is_found_gets_into_a_pipe_while_a_bar_is_on_the_terminal(tmp_path: Path, of: str) -> None:
    """A pseudo-terminal stands for the screen; of: what of a program's output is there, and not in a file."""
    program = (
        "from mixstyle.stages.common.progress import progress, say\n"
        "with progress('work', 2, 'songs') as bar:\n"
        "    bar.advance(); say('found'); bar.advance()\n"
    )
    screen, end = pty.openpty()
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        subprocess.run(
            [sys.executable, "-c", program],
            stdout=out if of == "stderr" else end,
            stderr=err if of == "stdout" else end,
            check=True,
            env={**os.environ, "TERM": "xterm"},
        )
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # how Linux tells the end
        while block := os.read(screen, 65_536):
            shown += block
    os.close(screen)
    assert (tmp_path / "out").read_bytes() == (b"found\n" if of == "stderr" else b"")
    assert (b"found" in shown) == (of != "stderr")
    assert (b"2/2" in shown) == (of != "stdout")
    assert (b"2/2" in (tmp_path / "err").read_bytes()) == (of == "stdout")


def test_a_watcher_is_told_and_may_end_the_work() -> None:
    seen = list[tuple[str, float | None, str]]()

    def watch(told: Told) -> None:
        seen.append((told.what, told.done, told.unit))
        if told.done == 0.75:
            raise KeyError("enough")

    def work() -> None:
        with watched(watch), progress("work", 4, "songs", shown=False) as bar:
            tell("look")
            for _ in range(4):
                bar.advance()

    with pytest.raises(KeyError):
        work()
    assert seen == [("look", None, ""), ("work", 0.25, "songs"), ("work", 0.5, "songs"), ("work", 0.75, "songs")]
    tell("look")
    assert len(seen) == 4, "the watcher is gone"


def test_work_of_which_nothing_is_counted_for_long_tells_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "BEAT_S", 0.05)
    with progress("work", 2, "songs", brief=True):
        deadline = time.monotonic() + 10
        told = ""
        while told.count("\n") < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
            told += capsys.readouterr().err
    capsys.readouterr()
    lines = told.splitlines()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"work: 0/2 songs, \d s so far, no estimate yet", line) for line in lines), lines
    time.sleep(0.2)  # four times as long: it has ended
    assert capsys.readouterr().err == ""


def test_what_is_brief_and_over_before_that_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 1, "songs", brief=True) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""
