"""Plain lines of progress: what was counted, and no rate where nothing was; a watcher is told, and may end the work."""

import re
import time

import pytest

from mixstyle.stages.common import progress as module
from mixstyle.stages.common.progress import Told, progress, tell, watched


@pytest.mark.parametrize(("total", "done", "lines"), [(0, 0, []), (3, 3, ["work: 3/3 songs"])])
def test_nothing_to_do_has_no_rate(capsys: pytest.CaptureFixture[str], total: int, done: int, lines: list[str]) -> None:
    with progress("work", total, "songs", done):
        pass
    assert capsys.readouterr().out.splitlines() == lines


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
            told += capsys.readouterr().out
    capsys.readouterr()
    lines = told.splitlines()
    assert len(lines) >= 3
    assert all(re.fullmatch(r"work: 0/2 songs, \d s so far, no estimate yet", line) for line in lines), lines
    time.sleep(0.2)  # four times as long: it has ended
    assert capsys.readouterr().out == ""


def test_what_is_brief_and_over_before_that_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("work", 1, "songs", brief=True) as bar:
        bar.advance()
    assert capsys.readouterr().out == ""
