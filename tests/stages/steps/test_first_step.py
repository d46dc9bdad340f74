"""Each step of each shipped profile, begun with nothing made, or with the first steps made: the command that its error
prints is that of the first step that is missing."""

import shlex
import sys
from pathlib import Path

import pytest
import soundfile
from helpers.mixed_cache import make_stems
from helpers.small_bank import make_bank
from helpers.small_separator import song

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages import cli
from mixstyle.stages.common.public_separator import PUBLIC
from mixstyle.stages.settings.profile import load_settings
from mixstyle.stages.status import status
from mixstyle.stages.steps.first_step import first_step

PROFILES = ("demo", "cpu", "fma", "fma-remix")
MUSIC = {"demo": "data/demo/songs", "cpu": "data/music", "fma": "data/fma", "fma-remix": "data/fma"}
STEMS = {"demo": "cache/demo/stems", "cpu": "cache/cpu/stems", "fma": "cache/stems", "fma-remix": "cache/stems"}
BANKS = {"demo": "cache/demo/remix", "cpu": "cache/cpu/remix", "fma-remix": "cache/fma-remix/remix"}
LATER = {
    "remix": (),
    "features": (),
    "train": (),
    "report": (),
    "evaluate": (),
    "export": ("encoder.safetensors",),
}
"""Steps that need stems, with their arguments."""


@pytest.fixture
def remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """What a command that fails tells to run, in words."""
    monkeypatch.chdir(tmp_path)

    def told(*words: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["mixstyle", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 1
        (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("mixstyle: error: "))
        return shlex.split(line.partition("run: mixstyle ")[2])

    return told


COMMANDS = {
    "separate": (),
    **LATER,
    "index": ("music",),
    "embed": ("a.wav", "-o", "out/e.npy"),
    "search": ("a.wav",),
    "compare": ("a.wav", "b.wav"),
    "describe": ("a.wav", "--csv", "out/d.csv"),
    "stems": ("a.wav", "-o", "out"),
    "match": ("a.wav", "-r", "b.wav", "-o", "out/m.wav"),
    "apply": ("c.json", "a.wav", "-o", "out"),
    "evaluate-match": ("music", "out"),
    "evaluate-musdb": ("music", "out"),
}
"""All that write, with arguments of which nothing is there."""


@pytest.mark.parametrize("without_music", [False, True], ids=["no folder", "a folder without music"])
@pytest.mark.parametrize("profile", PROFILES)
def test_a_refused_command_leaves_nothing_behind(
    profile: str, without_music: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if without_music:
        for folder in (MUSIC[profile], "music", "true"):
            Path(folder).mkdir(parents=True)
            (Path(folder) / "notes.txt").write_text("no music")
    before = sorted(tmp_path.rglob("*"))
    for step, words in COMMANDS.items():
        monkeypatch.setattr(sys, "argv", ["mixstyle", step, *words, "--config", profile])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        without_bank = step == "remix" and profile not in BANKS  # nothing is to be done
        assert ended.value.code == (0 if without_bank else 1), step
        assert sorted(tmp_path.rglob("*")) == before, step


@pytest.mark.parametrize("music", ["memory://music", "nosuch://music"], ids=["nothing there", "no such protocol"])
def test_music_behind_a_url_that_is_refused_leaves_nothing_behind(
    music: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor a lock beside the folder of stems, which was made before the music was looked at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["mixstyle", "separate", "--config", "cpu", "--data-path", music])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    assert not list(tmp_path.iterdir())


def add_music(profile: str) -> None:
    Path(MUSIC[profile]).mkdir(parents=True)
    soundfile.write(Path(MUSIC[profile]) / "song.wav", song(0, 0.5), 44_100)


def steps_of(profile: str) -> list[tuple[str, ...]]:
    return [(step, *words) for step, words in LATER.items() if step != "remix" or profile in BANKS]


@pytest.mark.parametrize("profile", PROFILES)
def test_with_nothing_made_songs_come_first_then_the_separator_then_separate(profile: str, remedy) -> None:
    config = ["--config", profile]
    songs = ["demo-songs"] if profile == "demo" else ["demo-songs", "data/demo", "--songs", "16"]
    for words in (("separate",), *steps_of(profile)):
        assert remedy(*words, *config) == [*songs, *config], words
    add_music(profile)
    public = profile.startswith("fma")
    first = ["fetch-separator", PUBLIC] if public else ["separate"]
    for words in steps_of(profile):
        assert remedy(*words, *config) == [*first, *config], words
    if public:
        assert remedy("separate", *config) == [*first, *config]


@pytest.mark.parametrize("profile", PROFILES)
def test_with_stems_a_training_on_a_bank_asks_for_the_bank(profile: str, remedy) -> None:
    """Descriptors of the stems can be had without the bank, and those of the bank not."""
    config = ["--config", profile]
    make_stems(Path(STEMS[profile]), tracks=2, clips=1)
    for words in (("report",), ("evaluate",)):
        assert remedy(*words, *config) == ["features", *config], words
    bank = ["remix"] if profile in BANKS else ["features"]
    for words in (("train",), ("export", "encoder.safetensors")):
        assert remedy(*words, *config) == [*bank, *config], words
    if profile in BANKS:
        make_bank(Path(BANKS[profile]), blocks=2, groups=1, contents=2, clip_s=0.5)
        for words in (("train",), ("export", "encoder.safetensors")):
            assert remedy(*words, *config) == ["features", *config], words


def test_an_objective_of_a_bank_where_none_is_configured_asks_for_one_with_blocks(remedy) -> None:
    make_stems(Path(STEMS["fma"]), tracks=2, clips=1)
    told = remedy("train", "--config", "fma", "--set", "train.objective=chain-grid")
    assert told == ["remix", "--set", "remix.blocks=100", "--config", "fma"]
    assert load_settings("fma", told[2:3]).remix.blocks > 0


@pytest.mark.parametrize("profile", PROFILES)
def test_status_names_a_next_command_that_separate_would_not_refuse(
    profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the music, then the separator, and `separate` itself only where both are there."""
    monkeypatch.chdir(tmp_path)
    settings = load_settings(profile)
    before = status(settings)
    if profile == "demo":
        assert before.next_command == "mixstyle demo-songs"
        return
    assert before.next_command == "mixstyle separate --data-path FOLDER"
    assert str(settings.separate.data_path) in before["separate"].problems[0]
    add_music(profile)
    command = f"mixstyle fetch-separator {PUBLIC}" if profile.startswith("fma") else "mixstyle separate"
    assert status(settings).next_command == command


def test_rendered_songs_are_taken_where_there_are_some(remedy) -> None:
    """Else the two commands would send people to each other for ever."""
    add_music("demo")
    config = ["--config", "cpu"]
    for words in (("separate",), *steps_of("cpu")):
        assert remedy(*words, *config) == ["separate", "--data-path", "data/demo/songs", *config]
    assert remedy("separate", "--data-path", "nowhere", *config) == [
        *("separate", "--data-path", "data/demo/songs", *config),
    ]


def test_what_is_stale_is_not_thrown_away_for_a_later_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stems of other settings are left to whoever asks for stems."""
    monkeypatch.chdir(tmp_path)
    make_stems(Path(STEMS["demo"]), tracks=2, clips=1)
    error = MixstyleError("x: no feature store", code="step-missing", remedy=("features",))
    assert first_step(error, load_settings("demo")) is error
    other = MixstyleError("x: stale, or", code="stale", remedy=("train", "--rebuild"))
    assert first_step(other, load_settings("demo")) is other
