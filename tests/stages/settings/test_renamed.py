"""Settings of earlier versions are read under the names that they have now."""

from pathlib import Path

import pytest

from mixstyle.stages.settings import renamed
from mixstyle.stages.settings.profile import SECTIONS, load_settings
from mixstyle.stages.settings.renamed import NAMES, VALUES


@pytest.mark.parametrize("by", ["yaml", "set"])
def test_lanes_are_read_as_streams_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str], by: str) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("separate:\n  lanes: 3\n" if by == "yaml" else "profile: old\n")
    settings = load_settings(path, ["separate.lanes=3"] if by == "set" else [])
    assert settings.separate.streams == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert "separate.lanes" in told.err
    assert "separate.streams" in told.err
    assert (str(path) if by == "yaml" else "--set") in told.err


def test_values_are_read_by_their_names_of_today(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VALUES, "evaluate.tasks", {"old-song": "songs"})
    monkeypatch.setitem(VALUES, "report.split", {"everything": "all"})
    path = tmp_path / "old.yaml"
    path.write_text("evaluate:\n  tasks: [presets, old-song]\n")
    settings = load_settings(path, ["report.split=everything"])
    assert settings.evaluate.tasks == ("presets", "songs")
    assert settings.report.split == "all"


def test_what_was_renamed_is_there_under_its_new_name_alone() -> None:
    def is_there(name: str) -> bool:
        section, _, key = name.partition(".")
        return key in {field for cls in [SECTIONS[section]] for field in cls.__pydantic_fields__}

    assert NAMES
    for old, new in NAMES.items():
        assert is_there(new)
        assert not is_there(old)
    assert all(is_there(name) for name in VALUES)
    assert renamed.name_now("train.seed") == "train.seed"
