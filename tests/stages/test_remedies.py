"""Every command that a message tells to run works as it is printed, with the options that were given."""

import json
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import yaml
from helpers.mixed_cache import CLIP_S, clip_of, settings_of
from helpers.small_encoder import SONG_S, write_encoder
from helpers.small_separator import write_separator, write_songs
from soundfile import write as write_audio

from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages import cli
from mixstyle.stages.common import commands
from mixstyle.stages.common.chosen_encoder import damage_helped
from mixstyle.stages.evaluate.provenance import LATER, prepare
from mixstyle.stages.settings.places import open_shards
from mixstyle.stages.songs.index.stage import opened_index

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Music as stems, and a profile whose file has another name than itself; its own music folder has other songs."""
    monkeypatch.chdir(tmp_path)
    for music, first in (("music here", 0), ("own", 20)):
        for index in range(first, first + 4):
            song = tmp_path / music / f"song {index}"
            song.mkdir(parents=True)
            for stem, audio in zip(STEMS, clip_of(index, 0).repeat(2, axis=-1)[..., : 3 * SAMPLE_RATE], strict=True):
                write_audio(song / f"{stem}.wav", audio.T, SAMPLE_RATE)
    profile = {
        "profile": "named otherwise",
        "separate": {
            **{"data_path": "own", "input": "stems", "stems_dir": "stems", "clip_s": CLIP_S, "clips_per_track": 2},
            **{"tracks_per_shard": 2, "validation_fraction": 0.0, "test_fraction": 0.0, "workers": 1, "device": "cpu"},
        },
        "features": {"features_path": "features.zarr", "device": "cpu", "workers": 1},
        "train": {
            **{"checkpoint_dir": "checkpoints", "log_dir": "logs", "device": "cpu", "batch_size": 2, "num_epochs": 1},
            **{"clip_duration_s": CLIP_S, "channels": [2, 4], "encoder_dim": 8, "film_hidden": 8, "hop_length": 512},
            **{"band_mels": 64, "band_step": 48},
            **{"workers": 0, "threads": 1, "map_every": 0},
        },
        "report": {"report_dir": "report", "device": "cpu"},
    }
    (tmp_path / "my profile.yaml").write_text(yaml.safe_dump(profile))
    return tmp_path


def run(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """A command as it is typed: its status, and what it printed."""
    monkeypatch.setattr(sys, "argv", words)
    capsys.readouterr()
    try:
        cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    else:
        status = 0
    return status, "".join(capsys.readouterr())


class Typed:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._with = (monkeypatch, capsys)

    def good(self, *words: str) -> str:
        status, told = run(["mixstyle", *words], *self._with)
        assert status == 0, told
        return told

    def remedy(self, *words: str) -> list[str]:
        """The command that a failing command's line tells to run."""
        status, told = run(["mixstyle", *words], *self._with)
        assert status == 1, told
        line = told.strip().splitlines()[-1]
        assert "run: mixstyle " in line, line
        return shlex.split(line.partition("run: ")[2])[1:]

    def follow(self, *words: str) -> list[str]:
        """Runs what a failing command tells to run, and then what that tells, until one works; all of them."""
        followed = []
        while True:
            command = self.remedy(*(followed[-1] if followed else words))
            followed.append(command)
            if run(["mixstyle", *command], *self._with)[0] == 0:
                return followed


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Typed:
    return Typed(monkeypatch, capsys)


CONFIG = ["--config", "my profile.yaml"]
SEPARATOR = {"config": "yaml", "checkpoint": "safetensors"}


@pytest.mark.slow
@pytest.mark.usefixtures("folder")
def test_from_nothing_to_a_report_by_what_is_told(typed: Typed) -> None:
    """A stage before the ones it needs, each option of the first carried along."""
    report = ["report", *CONFIG, "--set", "train.encoder_dim=16"]
    assert typed.remedy("features", *CONFIG) == ["separate", *CONFIG]
    commands_run = [typed.follow(*report)[-1][0] for _ in range(3)]
    assert commands_run == ["separate", "features", "train"]
    typed.good(*report)
    assert typed.remedy("train", *CONFIG) == ["train", "--rebuild", *CONFIG]
    assert typed.remedy("train", *CONFIG, "--temperature", "0.2", "--set", "train.encoder_dim=16") == [
        *("train", "--rebuild", *CONFIG),
        *("--set", "train.encoder_dim=16", "--set", "train.temperature=0.2"),
    ]
    typed.good(*typed.remedy("train", *CONFIG, "--temperature", "0.2", "--set", "train.encoder_dim=16"))


def test_a_bank_is_made_by_what_is_told(folder: Path, typed: Typed) -> None:
    write_separator(folder / "separator")
    profile = yaml.safe_load((folder / "my profile.yaml").read_text())
    profile["separate"] |= {f"separator_{name}": f"separator/separator.{ending}" for name, ending in SEPARATOR.items()}
    profile["remix"] = {"remix_dir": "remix", "features_path": "remix.zarr", "device": "cpu", "threads": 1}
    profile["remix"] |= {"contents": 2, "chains_per_block": 1, "clip_s": 0.5, "num_overlap": 1, "batch_chunks": 1}
    (folder / "my profile.yaml").write_text(yaml.safe_dump(profile))
    typed.good("remix", *CONFIG)  # of no blocks: nothing is needed
    asked = [*CONFIG, "--set", "remix.blocks=2"]
    assert typed.follow("remix", *asked) == [["separate", *CONFIG]]
    typed.good("features", *CONFIG)
    told = typed.good("features", *asked)
    assert shlex.join(["mixstyle", "remix", *asked]) in told
    assert shlex.join(["mixstyle", "remix", *asked]) in typed.good("status", *asked)
    typed.good("remix", *asked)
    assert "features: partly done" in typed.good("status", *asked)
    typed.good("features", *asked)
    assert "features: done" in typed.good("status", *asked)
    other = [*asked, "--set", "remix.seed=1"]
    assert typed.follow("remix", *other) == [["remix", "--rebuild", *other]]
    assert typed.follow("features", *other) == [["features", "--rebuild", *other]]
    os.truncate(folder / "remix" / "stems-000000.tar", 1000)
    command = typed.remedy("features", *other)
    assert command == ["remix", *other]
    (folder / "remix" / "stems-000000.json").unlink()  # as it says
    typed.good(*command)
    typed.good("features", *other)


def test_changed_damaged_and_old_files(folder: Path, typed: Typed) -> None:
    typed.good("separate", *CONFIG)
    changed = ["--set", "separate.silence_lufs=-50.0"]
    assert typed.follow("separate", *CONFIG, *changed) == [["separate", "--rebuild", *CONFIG, *changed]]
    assert typed.follow("separate", *CONFIG) == [["separate", "--rebuild", *CONFIG]]
    typed.good("features", *CONFIG)
    whole = (folder / "features.zarr" / "zarr.json").read_text()
    for damaged in [whole.replace('"version": 1', '"version": 9')]:
        (folder / "features.zarr" / "zarr.json").write_text(damaged)
        assert typed.follow("features", *CONFIG) == [["features", "--rebuild", *CONFIG]]
    plan = folder / "stems" / "plan.jsonl.gz"
    plan.write_bytes(plan.read_bytes()[:-20])
    typed.good("separate", *CONFIG)  # which makes it again
    os.truncate(folder / "stems" / "stems-000001.tar", 1000)
    command = typed.remedy("features", "--rebuild", *CONFIG)
    (folder / "stems" / "stems-000001.json").unlink()  # as it says
    typed.good(*command)
    typed.good("features", *CONFIG)


def test_music_that_was_named_on_the_command_line_is_remembered(folder: Path, typed: Typed) -> None:
    music = ["--data-path", "music here"]
    typed.good("separate", *CONFIG, *music)
    for told in (typed.good("status", *CONFIG), typed.good("status", *CONFIG, *music)):
        assert "separate: done" in told
        assert "mixstyle features" in told
    assert "separate: stale" in typed.good("status", *CONFIG, "--data-path", "own")
    made = {path: path.stat().st_mtime_ns for path in (folder / "stems").glob("stems-*")}
    typed.good("separate", *CONFIG)
    assert {path: path.stat().st_mtime_ns for path in (folder / "stems").glob("stems-*")} == made, "nothing was left"
    # the profile names other music since: now that counts
    profile = folder / "my profile.yaml"
    profile.write_text(profile.read_text().replace("data_path: own", "data_path: ./own"))
    assert "separate: done" in typed.good("status", *CONFIG)
    (folder / "own").rename(folder / "other")
    profile.write_text(profile.read_text().replace("data_path: ./own", "data_path: other"))
    assert "separate: stale" in typed.good("status", *CONFIG)
    assert typed.follow("separate", *CONFIG) == [["separate", "--rebuild", *CONFIG]]


def test_an_index_is_made_by_what_search_tells(tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_songs(tmp_path / "music", 3, seconds=SONG_S)
    write_separator(tmp_path / "separator")
    write_encoder(tmp_path / "encoder.safetensors")
    separate = {
        **{"data_path": "music", "separator_config": "separator/separator.yaml", "device": "cpu", "threads": 1},
        **{"separator_checkpoint": "separator/separator.safetensors", "batch_chunks": 1, "clip_s": 0.5},
    }
    profile = {"separate": separate, "train": {"clip_duration_s": 0.5}, "embed": {"device": "cpu", "workers": 1}}
    (tmp_path / "p.yaml").write_text(yaml.safe_dump(profile))
    search = ["search", "music/song 0.flac", "--config", "p.yaml", "--encoder", "encoder.safetensors"]
    search += ["--index", "an index"]
    given = ["--config", "p.yaml", "--encoder", "encoder.safetensors", "--index", "an index"]
    (command,) = typed.follow(*search)
    assert command[:2] == ["index", "music"]
    assert sorted(command[2:]) == sorted(given)
    typed.good(*search)
    other = [*search, "--set", "separate.clips_per_track=3"]
    (command,) = typed.follow(*other)
    assert command[:3] == ["index", str(tmp_path / "music"), "--rebuild"]
    typed.good(*other)


def test_an_index_that_python_names_is_filled_by_what_is_told(tmp_path: Path) -> None:
    """The command names the index: without it, it would be the profile's own."""
    (tmp_path / "own").mkdir()
    made_from = {"music": str(tmp_path / "music")}
    guard(tmp_path / "own" / "settings.json", Provenance("index", {}, {}, made_from), rebuild=False)
    with pytest.raises(MixstyleError) as caught:
        opened_index(tmp_path / "own", None)
    assert caught.value.remedy == ("index", str(tmp_path / "music"), "--index", str(tmp_path / "own"))
    with pytest.raises(MixstyleError) as caught:
        opened_index(tmp_path / "none", None)
    assert (caught.value.code, caught.value.remedy) == (
        "step-missing",
        ("index", "FOLDER", "--index", str(tmp_path / "none")),
    )


@pytest.mark.parametrize("stored", ['{"version":1}', '{"version":2,"settings":{}}', "{"])
def test_an_index_with_damaged_settings_is_told_with_a_command(tmp_path: Path, stored: str) -> None:
    (tmp_path / "settings.json").write_text(stored)
    with pytest.raises(MixstyleError) as caught:
        opened_index(tmp_path, None)
    assert caught.value.code == "damaged-file"
    assert caught.value.remedy[0::2] == ("index", "--index")  # writes them again, where its songs tell enough
    assert caught.value.remedy[3] == str(tmp_path)


def test_damaged_settings_of_stems_and_banks_are_told_with_the_command_that_made_them(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, remix={"remix_dir": str(tmp_path / "bank")})
    for folder, stage in ((settings.separate.stems_dir, "separate"), (settings.remix.remix_dir, "remix")):
        folder.mkdir()
        (folder / "settings.json").write_text("{")
        with pytest.raises(MixstyleError) as caught:
            open_shards(settings, folder)
        assert (caught.value.code, caught.value.remedy) == ("damaged-file", (stage,))


def test_damaged_settings_of_an_evaluation_are_made_anew_as_told(tmp_path: Path) -> None:
    provenance = Provenance("evaluate", dict.fromkeys(LATER, 1))
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(MixstyleError) as caught:
        prepare(tmp_path, provenance, rebuild=False)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("evaluate", "--rebuild"))
    prepare(tmp_path, provenance, rebuild=True)
    prepare(tmp_path, provenance, rebuild=False)


def test_a_damaged_checkpoint_of_the_profile_is_told_with_the_command_that_takes_it_away(tmp_path: Path) -> None:
    own, path = tmp_path / "checkpoints", tmp_path / "checkpoints" / "best_model.pt"
    other = tmp_path / "elsewhere" / "first.pt"  # of several, any may be the damaged one
    for trained, remedy in ((own, ("verify", "--repair")), (tmp_path, ())):
        with pytest.raises(MixstyleError) as caught, damage_helped([other, path], trained):
            raise MixstyleError(f"{path}: not a whole checkpoint", code="damaged-file")
        assert caught.value.remedy == remedy


def test_status_tells_commands_with_the_options_of_the_run(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my profile.yaml").write_text("features: {features_path: f.zarr}\ntrain: {clip_duration_s: 1.0}\n")
    for name in ("descriptors", "shard_sha256", "done"):
        (tmp_path / "f.zarr" / name).mkdir(parents=True)
    told = typed.good("status", *CONFIG, "--set", "features.workers=1")
    asked = [
        line.partition("run: ")[2] for line in told.splitlines() if line.startswith("features: ") and "run: " in line
    ]
    remedy = ["mixstyle", "features", "--rebuild", *CONFIG, "--set", "features.workers=1"]
    assert [shlex.split(command) for command in asked] == [remedy, remedy]


def test_steps_in_a_folder_of_another_command_are_helped_by_that_command() -> None:
    with pytest.raises(MixstyleError) as caught, commands.helped_by("evaluate-musdb", "in", "out"):
        raise MixstyleError("out/stems: stale", code="stale", remedy=("separate", "--rebuild"))
    assert (caught.value.code, caught.value.remedy) == ("stale", ("evaluate-musdb", "in", "out", "--rebuild"))
    with pytest.raises(MixstyleError) as caught, commands.helped_by("evaluate-musdb", "in", "out"):
        raise MixstyleError("out/stems: cut short", code="damaged-file", remedy=("separate",))
    assert caught.value.remedy == ("evaluate-musdb", "in", "out")
    with pytest.raises(MixstyleError) as caught, commands.helped_by("evaluate-musdb", "in", "out"):
        raise MixstyleError("in: no such folder", code="not-found")
    assert caught.value.remedy == ()


@pytest.mark.usefixtures("folder")
def test_a_command_that_is_told_has_the_settings_that_have_to_go_together(typed: Typed) -> None:
    short = ["--set", f"separate.clip_s={CLIP_S / 2}", "--set", f"train.clip_duration_s={CLIP_S / 2}"]
    (command,) = typed.follow("features", *CONFIG, *short)
    assert command == ["separate", *CONFIG, *short]


@pytest.mark.usefixtures("folder")
def test_a_profile_that_an_override_completes_takes_music_from_elsewhere(typed: Typed) -> None:
    Path("long.yaml").write_text(
        "train: {clip_duration_s: 12}\nseparate: {input: stems, stems_dir: long, device: cpu}\n"
    )
    typed.good("separate", "--config", "long.yaml", "--set", "separate.clip_s=12", "--data-path", "own", "--plan")


def test_an_option_that_a_message_names_itself_is_not_added_again() -> None:
    called = commands.CalledWith("cpu", (), {"embed.index_dir": "a", "embed.encoder": "e.pt"})
    told = called.command(("index", "music", "--rebuild", "--index", "b"))
    assert shlex.split(told)[1:] == [
        *("index", "music", "--rebuild", "--index", "b", "--config", "cpu"),
        *("--encoder", "e.pt"),
    ]
    of_another = commands.CalledWith("cpu", ("separate.input=mixtures", "separate.seed=1")).command(
        ("separate", "--set", "separate.input=stems")
    )
    assert shlex.split(of_another)[1:] == [
        *("separate", "--set", "separate.input=stems", "--config", "cpu"),
        *("--set", "separate.seed=1"),
    ]


def test_songs_are_made_anew_as_told(tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    few = ["demo-songs", "songs", "--songs", "1", "--duration", "8"]
    typed.good(*few)
    (command,) = typed.follow(*few, "--seed", "3")
    assert command[:3] == ["demo-songs", "songs", "--rebuild"]
    typed.good(*few, "--seed", "3")


def test_commands_are_quoted_and_keep_what_the_other_command_reads() -> None:
    called = commands.CalledWith("a b.yaml", ("train.seed=3", "separate.seed=1"), {"separate.devices": ["cpu"]})
    told = called.command(("features", "--rebuild"))
    assert shlex.split(told) == [
        *("mixstyle", "features", "--rebuild", "--config", "a b.yaml"),
        *("--set", "separate.seed=1", "--set", 'separate.devices=["cpu"]'),
    ]
    error = MixstyleError("x: is missing; delete it, then", code="step-missing", remedy=("separate",))
    assert str(error) == "x: is missing; delete it, then run: mixstyle separate"


def test_a_process_of_ours_tells_what_its_parent_was_called_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed
) -> None:
    monkeypatch.chdir(tmp_path)
    called = commands.CalledWith("theirs.yaml")
    (tmp_path / "ours.yaml").write_text("separate: {stems_dir: stems, data_path: music}\n")
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "song.wav").touch()
    monkeypatch.setenv(commands.ENVIRONMENT, json.dumps({"config": called.config}))
    assert typed.remedy("features", "--config", "ours.yaml") == ["separate", "--config", "theirs.yaml"]


def test_music_that_is_not_there_is_answered_by_songs_to_try(
    tmp_path: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a profile that renders songs its own, of another one some to name with --data-path."""
    monkeypatch.chdir(tmp_path)
    own = {"output_dir": "data/own", "songs": 1, "duration_s": 8.0, "stems": False}
    (tmp_path / "p.yaml").write_text(
        yaml.safe_dump({"demo_songs": own, "separate": {"data_path": "data/own/songs", "stems_dir": "stems"}})
    )
    assert typed.remedy("separate", "--config", "p.yaml") == ["demo-songs", "--config", "p.yaml"]
    typed.follow("separate", "--plan", "--config", "p.yaml")
    typed.good("separate", "--plan", "--config", "p.yaml")
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        command = typed.remedy("separate", "--config", "cpu", "--data-path", place)
        assert command == ["demo-songs", "data/demo", "--songs", "16", "--config", "cpu"]


@pytest.mark.parametrize("step", ["separate", "features", "report", "evaluate", "train"])
def test_commands_without_an_option_for_music_name_the_one_that_has_it(
    step: str, folder: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What they print works with a folder of music in its place."""
    (folder / "own").rename(folder / "elsewhere")
    status, told = run(["mixstyle", step, *CONFIG], monkeypatch, capsys)
    assert status == 1
    words = shlex.split(told.partition("give its folder: ")[2].partition(";")[0])
    assert words == ["mixstyle", "separate", "--data-path", commands.ANY_FOLDER, *CONFIG]
    if step == "features":
        typed.good(*["music here" if word == commands.ANY_FOLDER else word for word in words[1:]])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.usefixtures("folder")
def test_without_a_cuda_device_the_option_that_is_told_works(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for option in ("--device", "--devices"):
        status, told = run(["mixstyle", "separate", "--plan", *CONFIG, option, "cuda:0"], monkeypatch, capsys)
        assert status == 1
        words = told.partition("; give ")[2].partition(" (")[0].split()
        assert words == [option, "cpu"]
        assert run(["mixstyle", "separate", "--plan", *CONFIG, *words], monkeypatch, capsys)[0] == 0


def test_threads_tell_the_same_commands(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Songs are decoded in threads, which tell of cached stems that cannot be used."""
    assert run(["mixstyle", "status", "--config", "my profile.yaml"], monkeypatch, capsys)[0] == 0
    error = MixstyleError("damaged", code="damaged-file", remedy=("separate",))
    with ThreadPoolExecutor(1) as threads:
        told = threads.submit(commands.told, error).result()
    assert told == commands.told(error)
    assert shlex.split(told)[-4:] == ["mixstyle", "separate", "--config", "my profile.yaml"]
