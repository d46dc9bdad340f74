"""What was computed is not lost with the place that it should have gone to."""

from pathlib import Path

import pytest

from mixstyle.cache.storage.atomic import write_text
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.outputs import write_or_keep


def test_what_cannot_be_written_is_kept_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "a file").touch()
    wanted = tmp_path / "a file" / "values.csv"
    with pytest.raises(MixstyleError) as caught:
        write_or_keep(wanted, lambda path: write_text(path, "1,2\n"))
    assert caught.value.code == "cannot-write"
    (kept,) = tmp_path.glob("mixstyle-*/values.csv")
    assert kept.read_text() == "1,2\n"
    assert str(wanted.parent) in str(caught.value)
    assert str(kept) in str(caught.value)


def test_other_mistakes_are_not_tried_twice(tmp_path: Path) -> None:
    calls = []

    def write(path: Path) -> None:
        calls.append(path)
        raise MixstyleError("no", code="misfit")

    with pytest.raises(MixstyleError) as caught:
        write_or_keep(tmp_path / "x", write)
    assert caught.value.code == "misfit"
    assert calls == [tmp_path / "x"]
