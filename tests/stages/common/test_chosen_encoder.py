"""Which encoder a command takes."""

from pathlib import Path

import pytest

from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.common.chosen_encoder import chosen_checkpoints


def test_the_shipped_encoder_has_a_name_and_files_of_that_name_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, other = Path("shipped"), Path("a.pt")
    assert chosen_checkpoints((), Path("ck")) == [Path("ck/best_model.pt")]
    assert chosen_checkpoints((other, named), Path("ck")) == [other, shipped_encoder()]
    named.touch()
    assert chosen_checkpoints((other, named), Path("ck")) == [other, named]
