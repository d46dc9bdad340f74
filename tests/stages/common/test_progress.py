"""Plain lines of progress: what was counted, and no rate where nothing was; a watcher is told, and may end the work."""

import pytest

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
