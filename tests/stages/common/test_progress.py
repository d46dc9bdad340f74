"""Plain lines of progress: what was counted, and no rate where nothing was."""

import pytest

from mixstyle.stages.common.progress import progress


@pytest.mark.parametrize(("total", "done", "lines"), [(0, 0, []), (3, 3, ["work: 3/3 songs"])])
def test_nothing_to_do_has_no_rate(capsys: pytest.CaptureFixture[str], total: int, done: int, lines: list[str]) -> None:
    with progress("work", total, "songs", done):
        pass
    assert capsys.readouterr().out.splitlines() == lines
