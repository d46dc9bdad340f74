"""Outputs that would overwrite a song or one another are refused before any work."""

from dataclasses import replace
from pathlib import Path

import pytest

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.songs.describe.stage import Outputs
from mixstyle.stages.songs.match.stage import MatchOutputs
from mixstyle.stages.songs.names import refuse_clashes


def test_two_outputs_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    clashing = [
        [tmp_path / "c.wav", tmp_path / "c.wav"],
        [tmp_path / "c.wav", None, tmp_path / "x" / ".." / "c.wav"],
        [tmp_path / "c.wav", tmp_path / "link" / "c.wav"],
    ]
    for outputs in clashing:
        with pytest.raises(MixstyleError) as caught:
            refuse_clashes(outputs, [])
        assert caught.value.code == "bad-option"
    refuse_clashes([tmp_path / "c.wav", None, None, tmp_path / "c.json"], [])


@pytest.mark.parametrize(
    "more",
    [
        {"chain": "c.wav"},
        {"png": "c.png", "chain": "c.png"},
        {"stems": "", "song": "vocals.wav"},
        {"ab": "", "song": "after.wav"},
    ],
)
def test_a_match_that_would_write_two_things_to_one_file_is_refused(tmp_path: Path, more: dict[str, str]) -> None:
    """Its song would be lost to the chain, say."""
    given = {name: tmp_path / value for name, value in more.items()}
    with pytest.raises(MixstyleError) as caught:
        replace(MatchOutputs(tmp_path / "c.wav"), **given).check([])
    assert caught.value.code == "bad-option"
    assert list(tmp_path.iterdir()) == []


def test_a_page_of_one_song_is_a_file_of_its_kind(tmp_path: Path) -> None:
    for png, html in ((tmp_path / "x.gif", None), (None, tmp_path / "x.png")):
        with pytest.raises(MixstyleError) as caught:
            Outputs(None, None, png, html, several=False).check([])
        assert caught.value.code == "bad-option"
    Outputs(None, None, tmp_path / "x.PNG", tmp_path / "page", several=False).check([])
    Outputs(None, None, tmp_path / "songs 1.2", None, several=True).check([])
