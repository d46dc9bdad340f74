"""What is said of the music that is to be separated."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from mixstyle.cache.music.listing import list_tracks
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.separate.music import tell_of_stems
from mixstyle.stages.settings.profile import load_settings


@pytest.mark.parametrize(
    ("kind", "stems", "lines"), [("mixtures", STEMS, 1), ("stems", STEMS, 0), ("mixtures", ("other",), 0)]
)
def test_stems_that_are_separated_as_songs_are_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    kind: Literal["mixtures", "stems"],
    stems: tuple[str, ...],
    lines: int,
) -> None:
    (tmp_path / "a").mkdir()
    for name in stems:
        (tmp_path / "a" / f"{name}.wav").write_bytes(b"")
    chosen = dataclasses.replace(load_settings("cpu", []).separate, data_path=tmp_path, input=kind)
    tell_of_stems(list_tracks(tmp_path, kind), chosen)
    told = capsys.readouterr().err
    assert told.count("\n") == lines
    assert ("separate.input=stems" in told) == bool(lines)
