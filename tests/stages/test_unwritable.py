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


@pytest.mark.parametrize("what", [what for what in FILES if what != "index"])
def test_a_url_for_an_output_that_takes_none_is_told_as_one(
    folder: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no folder that is called `s3:` is made."""
    (folder / "p.yaml").write_text("separate: {separator_checkpoint: none.ckpt, data_path: none}\n")
    words = [word.replace("OUT", "s3://bucket/out") for word in FILES[what]]
    if what != "fetch-separator":
        words += ["--config", "p.yaml"]
    before = sorted(folder.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["mixstyle", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr().err
    assert "s3://bucket/out" in told or what == "demo-songs"  # whose setting is named instead
    assert code_of(*words) == ("bad-setting" if what == "demo-songs" else "cannot-write"), "by the URL, before any work"
    assert sorted(folder.rglob("*")) == before


SONGS = {
    "stems": ("stems", "SONG", "-o", "out"),
    "describe": ("describe", "SONG"),
    "describe --stems": ("describe", "song.wav", "--stems", "SONG"),
    "embed": ("embed", "SONG", "-o", "out.npy"),
    "compare": ("compare", "song.wav", "SONG"),
    "search": ("search", "SONG"),
    "match": ("match", "SONG", "-r", "song.wav", "-o", "out.wav"),
    "match -r": ("match", "song.wav", "-r", "SONG", "-o", "out.wav"),
    "apply": ("apply", "SONG", "song.wav", "-o", "out.wav"),
    "index": ("index", "SONG"),
    "evaluate-match": ("evaluate-match", "SONG", "out"),
    "evaluate-musdb": ("evaluate-musdb", "SONG", "out"),
    "separate.tracks_csv": ("separate", "--data-path", "music", "--set", "separate.tracks_csv=SONG"),
}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("what", SONGS)
def test_a_url_where_a_file_of_this_machine_is_needed_is_told_as_one(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [word.replace("SONG", "s3://bucket/a song.wav") for word in SONGS[what]]
    monkeypatch.setattr(sys, "argv", ["mixstyle", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    error = next(line for line in capsys.readouterr().err.splitlines() if line.startswith("mixstyle: error: "))
    assert "s3://bucket/a song.wav" in error
    assert code_of(*words) != "not-found", "a missing file has that code"


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
