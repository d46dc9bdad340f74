"""What commands tell of the separator: that it is the small one, and that the encoder has not seen its stems."""

import dataclasses
import json
import shutil
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import torch
from helpers.paths import ROOT
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import profile, write_separator, write_songs
from typer.testing import CliRunner

import mixstyle
from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder, save_export
from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.cli import app
from mixstyle.stages.common import notes, separators
from mixstyle.stages.common.assets import (
    FIRST_ENCODER,
    FIRST_SEPARATOR,
    SEPARATOR,
    SEPARATOR_CONFIG,
    shipped,
    shipped_encoder,
)
from mixstyle.stages.common.public_separator import PUBLIC
from mixstyle.stages.common.separators import configured_separator, is_small, other_separator, tell_small
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.stage import embedder_of

CPU = torch.device("cpu")


@pytest.fixture
def small() -> Separator:
    return load_separator(shipped(SEPARATOR_CONFIG), shipped(SEPARATOR))


@pytest.fixture(autouse=True)
def _a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notes, "_told", None)
    notes.begin_notes()


def test_the_small_separator_is_told_once_a_run_on_stderr(small: Separator, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        tell_small(small)
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert f"mixstyle fetch-separator {PUBLIC}" in told.err
    notes.begin_notes()
    tell_small(small)
    assert capsys.readouterr().err == told.err


def test_it_is_known_by_its_weights(tmp_path: Path) -> None:
    copies = tmp_path / "copy.yaml", tmp_path / "copy.safetensors"
    shutil.copy(shipped(SEPARATOR_CONFIG), copies[0])
    shutil.copy(shipped(SEPARATOR), copies[1])
    assert is_small(load_separator(*copies, num_overlap=1))
    assert is_small(load_separator(copies[0], shipped(FIRST_SEPARATOR)))
    assert not is_small(load_separator(*write_separator(tmp_path / "other")))


def test_only_what_is_to_separate_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"separator_config": str(shipped(SEPARATOR_CONFIG)), "separator_checkpoint": str(shipped(SEPARATOR))}
    settings = profile(tmp_path, tmp_path, **files)
    configured_separator(settings.separate, CPU, to_separate=False)
    configured_separator(dataclasses.replace(settings.separate, input="stems"), CPU)
    configured_separator(profile(tmp_path / "b", tmp_path).separate, CPU)
    assert capsys.readouterr().err == ""
    configured_separator(settings.separate, CPU)
    assert "fetch-separator" in capsys.readouterr().err


def test_without_a_command_nothing_is_told(
    small: Separator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a worker process: its parent has told it."""
    monkeypatch.setattr(notes, "_told", None)
    tell_small(small)
    assert capsys.readouterr().err == ""


@pytest.fixture(scope="module")
def with_small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str]]]:
    """A folder with music, an encoder and a profile whose separator passes for the small one; and its options."""
    folder = tmp_path_factory.mktemp("small")
    used = embedding_profile(folder, write_songs(folder / "music", 2, seconds=SONG_S)).separate
    weights = load_separator(used.separator_config, used.separator_checkpoint).weights
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(separators, "_weights_of", lambda _path: weights)
        yield folder, ["--config", str(folder / "profile.yaml")]


@pytest.mark.parametrize(
    "words", ["separate", "describe SONG --json d.json", "embed SONG -o e.npy", "compare SONG SONG"]
)
def test_commands_that_separate_tell_of_it(with_small: tuple[Path, list[str]], words: str) -> None:
    folder, options = with_small
    given = [word.replace("SONG", str(folder / "music" / "song 0.flac")) for word in words.split()]
    written = [str(folder / word) if word.endswith((".json", ".npy")) else word for word in given]
    encoder = [] if words.split()[0] in ("separate", "describe") else ["--encoder", str(folder / "encoder.safetensors")]
    done = CliRunner().invoke(app, [*written, *options, *encoder])
    assert done.exception is None
    told = [(done.stderr + done.stdout).count(what) for what in ("note: the separator is the small", "fetch-separator")]
    assert told == ([1, 0] if encoder else [1, 1])  # no other separator than the one that the encoder has seen
    if words.startswith("describe"):
        assert json.loads((folder / "d.json").read_text())["songs"]


def test_remix_tells_of_it(with_small: tuple[Path, list[str]]) -> None:
    folder, options = with_small
    bank = {"blocks": 1, "contents": 2, "chains_per_block": 1, "clip_s": 0.5, "remix_dir": folder / "bank"}
    bank |= {"batch_chunks": 1, "streams": 1, "threads": 1, "workers": 1}
    chosen = [word for name, value in bank.items() for word in ("--set", f"remix.{name}={value}")]
    assert CliRunner().invoke(app, ["separate", *options]).exception is None
    done = CliRunner().invoke(app, ["remix", *options, *chosen, "--device", "cpu"])
    assert done.exception is None
    assert (done.stderr.count("fetch-separator"), done.stdout.count("fetch-separator")) == (1, 0)
    lines = [*done.stderr.splitlines(), *done.stdout.splitlines()]
    assert any(line.startswith("remix: 1/1 groups") for line in lines)
    assert not any(line.startswith("separate:") for line in lines), "that is another command"


def test_index_search_and_browse_tell_of_it_and_status_does_not(with_small: tuple[Path, list[str]]) -> None:
    folder, options = with_small
    embeds = [*options, "--encoder", str(folder / "encoder.safetensors"), "--index", str(folder / "index")]
    audio, rate = soundfile.read(folder / "music" / "song 0.flac")
    soundfile.write(folder / "quieter.flac", 0.5 * audio, rate)  # not in the index, so that it is separated
    for words, times in (
        (["index", str(folder / "music")], 1),
        (["search", str(folder / "quieter.flac")], 1),
        (["search", str(folder / "music" / "song 0.flac")], 0),
    ):
        done = CliRunner().invoke(app, [*words, *embeds])
        assert done.exception is None
        assert (done.stderr.count("small one"), done.output.count("fetch-separator")) == (times, 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:  # refused once all else is loaded
        done = CliRunner().invoke(app, ["browse", "--port", str(taken.getsockname()[1]), *embeds])
    assert isinstance(done.exception, MixstyleError)
    assert (done.exception.code, done.stderr.count("small one")) == ("in-use", 1)
    assert "fetch-separator" not in CliRunner().invoke(app, ["status", *options]).output


def encoder_that_saw(path: Path, *records: SeparatorRecord) -> LoadedEncoder:
    """An encoder with these records, written to a file and read back."""
    loaded = dataclasses.replace(load_encoder(write_encoder(path)), separators=records)
    save_export(path, loaded, "a card")
    return load_encoder(path)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("separators")
    return embedding_profile(folder, write_songs(folder / "music", 1, seconds=SONG_S))


def test_an_encoder_knows_the_separators_that_it_saw(settings: Settings, tmp_path: Path) -> None:
    separator = configured_separator(settings.separate, CPU)
    assert separator is not None
    seen, other = SeparatorRecord.of(separator), SeparatorRecord("other", "0123456789abcdef", 2)
    path = tmp_path / "e.safetensors"
    for records in ((), (seen,), (other, seen)):
        encoder = encoder_that_saw(path, *records)
        assert encoder.separators == records
        assert other_separator(encoder, separator) == ""
    told = other_separator(encoder_that_saw(path, other), separator)
    assert all(part in told for part in ("other", other.fingerprint, separator.name, separator.fingerprint))


def test_the_shipped_encoder_has_seen_the_shipped_separator(small: Separator) -> None:
    assert other_separator(load_encoder(shipped_encoder()), small) == ""


def test_the_pair_of_version_0_1_still_belongs_together(small: Separator) -> None:
    encoder = load_encoder(ROOT / FIRST_ENCODER)
    assert other_separator(encoder, load_separator(shipped(SEPARATOR_CONFIG), shipped(FIRST_SEPARATOR))) == ""
    assert other_separator(encoder, small)


def test_load_and_the_commands_warn_of_another_separator(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "e.safetensors"
    encoder_that_saw(path, SeparatorRecord("other", "0123456789abcdef", 2))
    files = settings.separate.separator_config, settings.separate.separator_checkpoint
    with pytest.warns(UserWarning, match="0123456789abcdef"):
        mixstyle.load(path, separator=files, device="cpu")
    ours = dataclasses.replace(settings, embed=dataclasses.replace(settings.embed, encoder=path))
    for _ in range(2):
        embedder_of(ours)
    told = capsys.readouterr()
    assert (told.out, told.err.count("0123456789abcdef")) == ("", 1)
    separator = load_separator(*files)
    encoder_that_saw(path, SeparatorRecord.of(separator))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mixstyle.load(path, separator=files, device="cpu")
        embedder_of(ours)
    assert capsys.readouterr().err == ""
