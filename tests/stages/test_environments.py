"""Environments that machines of users have: no home folder, outputs of ASCII, files in Latin-1, half a torchrun."""

import io
import logging
import os
import pwd
import sys
from pathlib import Path

import pytest

from mixstyle.cache.feature_store.store import set_codec_threads
from mixstyle.cache.storage.tuning_cache import tunings_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages import cli
from mixstyle.stages.export import export
from mixstyle.stages.separate.provenance import threads_of
from mixstyle.stages.separate.tuned_streams import available_memory
from mixstyle.stages.settings.profile import load_settings
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.songs.names import page_names
from mixstyle.stages.train.launcher import as_rank
from mixstyle.stages.train.stage import train


@pytest.fixture
def _no_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As a container's process of a user that is not in its /etc/passwd."""

    def unknown(number: int) -> None:
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("_no_home")
def test_without_a_home_folder(tmp_path: Path) -> None:
    from mixstyle.cache.storage import tuning_cache

    with pytest.MonkeyPatch.context() as patch:  # the suite's own fixture redirects it
        patch.setattr(tuning_cache, "tunings_folder", tunings_folder)
        assert tunings_folder().is_relative_to(tmp_path)
    with pytest.raises(MixstyleError) as caught:
        load_settings("cpu", ["features.features_path=~/features.zarr"])
    assert (caught.value.code, "features.features_path" in str(caught.value)) == ("bad-setting", True)


def test_a_home_that_cannot_be_written_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    cli.main(lambda: logging.getLogger("matplotlib").warning("mkdir -p failed for path /.config/matplotlib"))
    assert capfd.readouterr() == ("", "")


def test_outputs_of_ascii_take_any_character(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = {name: io.TextIOWrapper(io.BytesIO(), encoding="ascii") for name in ("stdout", "stderr")}
    for name, stream in streams.items():
        monkeypatch.setattr(sys, name, stream)

    def run() -> None:
        print("Für Elise → a.wav")
        raise MixstyleError("Für Elise: \udcff", code="no-music")

    with pytest.raises(SystemExit) as ended:
        cli.main(run)
    monkeypatch.undo()
    assert ended.value.code == 1
    told = {}
    for name, stream in streams.items():
        stream.flush()
        told[name] = stream.buffer.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert told == {
        "stdout": rb"F\xfcr Elise \u2192 a.wav" + b"\n",
        "stderr": rb"mixstyle: error: F\xfcr Elise: \xff" + b"\n",
    }


def test_pages_get_names_that_the_systems_encoding_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "iso8859-1")
    assert page_names(["Für → Elise.mp3"], ".png") == [r"Für \u2192 Elise.png"]


@pytest.mark.parametrize(("encoding", "status"), [("ascii", 1), ("cp037", None)])
def test_a_name_that_the_systems_encoding_has_not_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoding: str, status: int | None
) -> None:
    """encoding: of what fails. That of file names is ASCII."""

    def run() -> None:
        Path("Für → Elise.mp3".encode(encoding).decode()).stat()

    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    with pytest.raises(SystemExit if status else UnicodeEncodeError) as ended:
        cli.main(run)
    if status:
        assert getattr(ended.value, "code", None) == status
        (line,) = capsys.readouterr().err.splitlines()
        assert "Für → Elise.mp3" in line


def test_a_profile_in_latin_1_is_told_and_one_with_a_byte_order_mark_read(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes("separate: {data_path: Müsik}\n".encode("latin-1"))
    with pytest.raises(MixstyleError) as caught:
        load_settings(path)
    assert (caught.value.code, str(path) in str(caught.value)) == ("bad-setting", True)
    path.write_bytes("separate: {data_path: Müsik}\n".encode("utf-8-sig"))
    assert load_settings(path).separate.data_path == Path("Müsik")


def test_words_for_the_model_card_in_latin_1_are_told(tmp_path: Path) -> None:
    words = tmp_path / "words.md"
    words.write_bytes("für".encode("latin-1"))
    with pytest.raises(MixstyleError) as caught:
        export(load_settings("demo"), tmp_path / "x.safetensors", Path("api/encoder.safetensors"), words=words)
    assert (caught.value.code, str(words) in str(caught.value)) == ("wrong-file", True)


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"WORLD_SIZE": "4"}, "RANK, MASTER_ADDR, MASTER_PORT"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}, "MASTER_PORT"),
        ({"WORLD_SIZE": "many"}, "WORLD_SIZE=many"),
        ({"WORLD_SIZE": "9" * 5000, "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}, "WORLD_SIZE=9"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "65536"}, "MASTER_PORT=65536"),
        ({"WORLD_SIZE": "2", "RANK": "x", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}, "RANK=x"),
        ({"WORLD_SIZE": "2", "RANK": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}, "RANK=2"),
        ({"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "http"}, "MASTER_PORT=http"),
    ],
)
def test_half_of_what_torchrun_sets_is_told(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], named: str
) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MixstyleError) as caught, as_rank(TrainSettings(device="cpu")):
        pass
    assert (caught.value.code, named in str(caught.value)) == ("bad-option", True), str(caught.value)


def test_half_of_what_torchrun_sets_is_told_before_what_train_would_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(MixstyleError) as caught:
        train(load_settings("demo"))
    assert (caught.value.code, "RANK, MASTER_ADDR, MASTER_PORT" in str(caught.value)) == ("bad-option", True)
    assert not list(tmp_path.iterdir())


def test_without_what_linux_alone_has(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    cores = os.cpu_count() or 1
    assert threads_of(SeparateSettings()) == cores
    assert set_codec_threads(1) == cores
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available_memory(tmp_path / "no meminfo") == whole / 2
    (tmp_path / "meminfo").write_text("MemTotal: 10 kB\nMemAvailable: 3 kB\n")
    assert available_memory(tmp_path / "meminfo") == 3072
