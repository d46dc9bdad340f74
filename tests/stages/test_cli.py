"""The commands that use what was trained, as they are typed."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from helpers.numbers import numbers
from helpers.small_cache import make_cache
from helpers.small_encoder import SONG_S, embedding_profile, write_encoder
from helpers.small_separator import write_songs
from helpers.training import CLIP_S, profile, settings_of
from typer.core import TyperGroup
from typer.testing import CliRunner

import mixstyle
from mixstyle.cache.models.exports import load_export
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.cli import app, main
from mixstyle.stages.cli_options import profiles, several_devices
from mixstyle.stages.evaluate.tasks.registry import TASKS
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import train


def typed(*words: object) -> str:
    """Runs a command; what it printed. Raises what it raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


@pytest.mark.slow
def test_a_trained_encoder_is_evaluated_and_exported(tmp_path: Path) -> None:
    make_cache(tmp_path / "stems", tracks=8, clips=2, clip_s=CLIP_S, validation=4)
    settings = settings_of(tmp_path / "run", num_epochs=1)
    features(settings)
    train(settings)
    path = profile(tmp_path / "run", num_epochs=1)
    data = yaml.safe_load(path.read_text())
    data["evaluate"] = {"evaluate_dir": str(tmp_path / "out"), "effects": [2], "whitening_chains": 3, "workers": 0}
    data["evaluate"] |= {"tasks": ["stems-same-chain", "songs"], "device": "cpu"}
    data["evaluate"] |= {"bank_dir": str(tmp_path / "banks")}
    path.write_text(yaml.safe_dump(data))
    told = typed("export", tmp_path / "e.safetensors", "--half", "--config", path)
    assert str(tmp_path / "e.safetensors") in told
    assert load_export(tmp_path / "e.safetensors").step == 2
    told = typed("evaluate", "--config", path, "--checkpoint", tmp_path / "e.safetensors", "--chains", 10)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    table = TASKS["stems-same-chain"].table
    assert table is not None
    assert table(metrics).title in told
    assert "raw descriptors" in told
    assert metrics["rows"][0] == "e"
    assert metrics["chains"] == 10
    with pytest.raises(MixstyleError) as caught:
        typed("evaluate", "--config", path, "--checkpoint", tmp_path / "e.safetensors", "--chains", 11)
    assert caught.value.code == "stale"
    assert "chains: 10 -> 11" in str(caught.value)


@pytest.mark.slow
def test_songs_are_embedded_indexed_searched_and_compared(tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 3, seconds=SONG_S)
    embedding_profile(tmp_path, music)
    encoder = write_encoder(tmp_path / "encoder.safetensors")
    common = ("--config", tmp_path / "profile.yaml", "--encoder", encoder, "--device", "cpu")
    songs = sorted(music.glob("*.flac"))
    told = typed("embed", *songs, "-o", tmp_path / "e.npy", *common)
    assert numbers(told.rpartition("e.npy")[2])[:2] == [3, 32], "songs and dimensions"
    assert np.load(tmp_path / "e.npy").shape == (3, 32)
    for new in (3, 0):
        lines = typed("index", music, "--index", tmp_path / "index", *common).splitlines()
        (told,) = (line for line in lines if str(music) in line)
        assert (counted(3, "song") in told, numbers(told.partition(str(music))[2])[0]) == (True, new)
    told = typed("search", songs[0], "-k", 1, "--index", tmp_path / "index", *common)
    assert "song 0.flac" in told
    assert counted(3, "song") in told
    assert "cosine" in typed("compare", songs[0], songs[1], "--png", tmp_path / "c.png", *common)
    assert (tmp_path / "c.png").is_file()
    with pytest.raises(MixstyleError) as caught:
        typed("search", tmp_path / "nothing.wav", "--index", tmp_path / "index", *common)
    assert (caught.value.code, "nothing.wav" in str(caught.value)) == ("not-found", True)
    with pytest.raises(MixstyleError) as caught:
        typed("search", songs[0], "--index", tmp_path / "other", *common)
    assert (caught.value.code, str(tmp_path / "other") in str(caught.value)) == ("step-missing", True)


@pytest.mark.parametrize("port", [-1, 65536])
def test_what_is_no_port_is_refused(port: int) -> None:
    result = CliRunner().invoke(app, ["browse", "--port", str(port)])
    assert result.exit_code == 2, "as for any option of a wrong value"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        (["-o", "o.wav"], ["--reference"]),
        (["-r", "r.wav"], ["--output"]),
        ([], ["--reference", "--output"]),
    ],
)
def test_a_match_asks_for_what_is_missing_and_for_nothing_else(given: list[str], missing: list[str]) -> None:
    with pytest.raises(MixstyleError) as caught:
        typed("match", "mine.wav", *given)
    assert (caught.value.code, re.findall("--[a-z]+", str(caught.value))) == ("bad-option", missing)


def test_songs_are_asked_for_clips_shorter_than_a_training_takes(tmp_path: Path) -> None:
    short = ("--set", "separate.clip_s=3", "--set", "train.clip_duration_s=4")
    for command in (("describe", "none"), ("embed", "none", "-o", "a.npy"), ("index", "none"), ("stems", "none")):
        words = [*command, *(("-o", tmp_path) if command[0] == "stems" else ())]
        with pytest.raises(MixstyleError) as caught:
            typed(*words, *short)
        assert caught.value.code == "not-found", "the song, and no setting"
    with pytest.raises(MixstyleError) as caught:
        typed("features", *short)
    assert caught.value.code == "bad-setting"


def test_several_devices_are_names_or_a_number() -> None:
    assert several_devices("cuda:1,cuda:3", "cpu") == ["cuda:1", "cuda:3"]
    assert several_devices("3", "cuda:5") == ["cuda:0", "cuda:1", "cuda:2"]
    assert several_devices("2", "cpu") == ["cpu", "cpu"]
    assert {name.partition(":")[0] for name in several_devices("2", "auto")} == {resolve_device("auto").type}
    with pytest.raises(MixstyleError) as caught:
        several_devices("0", "cpu")
    assert caught.value.code == "bad-option"


@pytest.mark.parametrize(("command", "section"), [("separate", "separate"), ("remix", "remix"), ("train", "train")])
@pytest.mark.parametrize(("text", "devices"), [("2", ("cpu", "cpu")), ("cuda:0,cuda:2", ("cuda:0", "cuda:2"))])
def test_devices_means_the_same_in_every_command(
    monkeypatch: pytest.MonkeyPatch, command: str, section: str, text: str, devices: tuple[str, ...]
) -> None:
    seen: list[Settings] = []

    def stage(settings: Settings, *_: object) -> None:
        seen.append(settings)
        raise MixstyleError("far enough", code="worker-died")

    monkeypatch.setattr(f"mixstyle.stages.{command}.stage.{command}", stage)
    with pytest.raises(MixstyleError) as caught:
        typed(command, "--devices", text, "--device", "cpu")
    assert caught.value.code == "worker-died"  # the stage was reached
    assert getattr(seen[0], section).devices == devices
    if command == "train":
        assert seen[0].train.process_count == 2


def test_the_version_is_told() -> None:
    assert typed("--version").split() == ["mixstyle", mixstyle.__version__]


def test_every_option_has_help() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    assert len(group.commands) == 23
    for name, command in group.commands.items():
        assert command.help, name
        assert "mixstyle " + name in command.help, "an example"
        for option in command.params:
            assert getattr(option, "help", None), f"{name} {option.name}"


def test_arguments_are_written_alike_in_every_usage() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    named = [
        (name, parameter.metavar or "")
        for name, command in group.commands.items()
        for parameter in command.params
        if parameter.param_type_name == "argument"
    ]
    assert len(named) > 10
    assert [one for one in named if not re.fullmatch("[A-Z]+", one[1])] == []


@pytest.mark.parametrize("name", ["separate", "remix", "features", "index"])
def test_help_shows_the_brackets_of_an_extra(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are markup, unless they are escaped."""
    monkeypatch.setenv("COLUMNS", "200")
    assert "Needs mixstyle[ray]." in typed(name, "--help")


@pytest.mark.parametrize("name", ["evaluate", "evaluate-musdb"])
def test_effect_chains_are_asked_for_by_either_name(name: str) -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    (option,) = (option for option in group.commands[name].params if option.name == "chains")
    assert option.opts == ["--chains", "--styles"]


def test_a_shell_completes_profiles_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert profiles("")[:4] == ["cpu", "demo", "fma", "fma-remix"]
    assert profiles("de") == ["demo"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "other.yml").touch()
    assert profiles("m") == ["mine.yaml", "more/"]
    assert profiles("more/") == ["more/other.yml"]
    assert profiles(f"{tmp_path}/mi") == [f"{tmp_path}/mine.yaml"]


def test_an_error_is_one_line_that_a_terminal_shows_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise MixstyleError("a\x1b[31m\nb \udce9.mp3: no such file", code="not-found")

    with pytest.raises(SystemExit) as ended:
        main(fail)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "mixstyle: error: a\\x1b[31m\\nb \\xe9.mp3: no such file\n"
