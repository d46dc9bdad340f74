"""Commands whose outputs cannot be written: one line, before any work."""

import errno
import os
import sys
from pathlib import Path

import pytest
import yaml
from helpers.small_separator import song
from soundfile import write as write_audio
from typer.testing import CliRunner

from mixstyle.cache.match_chain import MatchChain, write_chain
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.matching.desk import Strip
from mixstyle.stages.cli import app, main

SECTIONS = {
    "separate": "stems_dir",
    "remix": "remix_dir",
    "features": "features_path",
    "train": "checkpoint_dir",
    "report": "report_dir",
    "evaluate": "evaluate_dir",
}
FILES = {
    "describe --csv": ("describe", "song.wav", "--csv", "OUT.csv"),
    "describe --json": ("describe", "song.wav", "--json", "OUT.json"),
    "describe --png": ("describe", "song.wav", "--png", "OUT.png"),
    "describe --png, several": ("describe", "song.wav", "song.wav", "--png", "OUT"),
    "embed": ("embed", "song.wav", "-o", "OUT.parquet"),
    "compare": ("compare", "song.wav", "song.wav", "--png", "OUT.png"),
    "compare --json": ("compare", "song.wav", "song.wav", "--json", "OUT.json"),
    "compare --csv": ("compare", "song.wav", "song.wav", "--csv", "OUT.csv"),
    "search --json": ("search", "song.wav", "--json", "OUT.json"),
    "search --csv": ("search", "song.wav", "--csv", "OUT.csv"),
    "stems": ("stems", "song.wav", "-o", "OUT"),
    "match": ("match", "song.wav", "-r", "song.wav", "-o", "OUT.wav"),
    "match --chain": ("match", "song.wav", "-r", "song.wav", "-o", "out.wav", "--chain", "OUT.json"),
    "match --png": ("match", "song.wav", "-r", "song.wav", "-o", "out.wav", "--png", "OUT.png"),
    "match --write-stems": ("match", "song.wav", "-r", "song.wav", "-o", "out.wav", "--write-stems", "OUT"),
    "match --ab": ("match", "song.wav", "-r", "song.wav", "-o", "out.wav", "--ab", "OUT"),
    "apply": ("apply", "chain.json", "song.wav", "-o", "OUT.wav"),
    "evaluate-match": ("evaluate-match", "music", "OUT"),
    "evaluate-musdb": ("evaluate-musdb", "music", "OUT"),
    "export": ("export", "OUT.safetensors", "--checkpoint", "none.pt"),
    "index": ("index", "music", "--index", "OUT"),
    "demo-songs": ("demo-songs", "OUT", "--songs", "1"),
    "fetch-separator": ("fetch-separator", "http://127.0.0.1:9/x.ckpt", "-o", "OUT.ckpt"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Music, and a profile whose separator is not there: work would end in another error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    for path in ("song.wav", "music/song.wav"):
        write_audio(tmp_path / path, song(0), 44_100)
    (tmp_path / "a file").touch()
    write_chain(tmp_path / "chain.json", MatchChain((Strip(),) * 4, 0.0, -14.0))
    return tmp_path


def code_of(*words: str) -> str:
    error = CliRunner().invoke(app, list(words)).exception
    assert isinstance(error, MixstyleError), error
    return error.code


@pytest.mark.parametrize("what", [*FILES, *SECTIONS])
def test_an_output_that_cannot_be_written_is_refused_before_any_work(folder: Path, what: str) -> None:
    place = "a file/out"
    none = {"separator_checkpoint": "none.ckpt", "data_path": "none", "stems_dir": "none"}
    profile: dict[str, dict[str, object]] = {"separate": {**none}}
    words = [word.replace("OUT", place) for word in FILES.get(what, (what,))]
    if what in SECTIONS:
        profile.setdefault(what, {})[SECTIONS[what]] = f"{place}/x"
        profile.setdefault("remix", {})["blocks"] = 2
    (folder / "p.yaml").write_text(yaml.safe_dump(profile))
    if what != "fetch-separator":
        words += ["--config", "p.yaml"]
    assert code_of(*words) == "cannot-write"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_refusal_that_no_code_expected_is_one_line_too(capsys: pytest.CaptureFixture[str], number: int) -> None:
    def run() -> None:
        raise OSError(number, os.strerror(number), "out.bin")

    with pytest.raises(SystemExit) as ended:
        main(run)
    assert ended.value.code == 1
    assert capsys.readouterr().err.splitlines() == [f"mixstyle: error: out.bin: {os.strerror(number)}"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.usefixtures("folder")
def test_a_full_disk_under_the_printed_output_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mixstyle", "status"])
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 1
    assert capfd.readouterr().err.splitlines() == [f"mixstyle: error: cannot write: {os.strerror(errno.ENOSPC)}"]
