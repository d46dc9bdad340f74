"""Which encoder a command takes."""

from pathlib import Path

import pytest

from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.common.chosen_encoder import checkpoint_hash, chosen_checkpoints


def test_the_shipped_encoder_has_a_name_and_files_of_that_name_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named, other = Path("shipped"), Path("a.pt")
    assert chosen_checkpoints((), Path("ck")) == [Path("ck/best_model.pt")]
    assert chosen_checkpoints((other, named), Path("ck")) == [other, shipped_encoder()]
    named.touch()
    assert chosen_checkpoints((other, named), Path("ck")) == [other, named]


def test_the_hash_of_a_checkpoint_is_the_beginning_of_its_sha256(tmp_path: Path) -> None:
    """FIPS 180-4's example: SHA-256 of "abc"."""
    path = tmp_path / "a.pt"
    path.write_bytes(b"abc")
    assert checkpoint_hash(path) == "ba7816bf8f01cfea"
