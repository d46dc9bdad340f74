"""Profiles load against their dataclasses, and wrong settings are refused by name."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings, from_plain, load_settings, plain

CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_profile_loads_and_says_what_it_means(path: Path) -> None:
    settings = load_settings(path)
    assert settings.profile == path.stem
    for section, values in yaml.safe_load(path.read_text()).items():
        if isinstance(values, dict):
            assert {key: plain(getattr(settings, section))[key] for key in values} == values


def test_fma_is_the_published_recipe() -> None:
    train = load_settings(next(path for path in CONFIGS if path.stem == "fma")).train
    assert (train.batch_size, train.num_epochs, train.learning_rate, train.temperature) == (24, 100, 2e-4, 0.1)
    assert (train.n_mels, train.n_fft, train.hop_length, train.clip_duration_s) == (128, 1024, 256, 10.0)
    assert (train.aug_prob, train.aug_gain_range_db, train.encoder_dim) == (0.5, 9.0, 768)
    assert (train.band_mels, train.band_step, train.checkpoint_every) == (20, 10, 5)


def test_profiles_share_no_folder_but_for_equal_stems() -> None:
    separated: dict[Path, str] = {}
    seen: set[Path] = set()
    for path in CONFIGS:
        s = load_settings(path)
        stems = {s.separate.stems_dir, s.features.features_path}
        if s.separate.stems_dir in separated:
            assert separated[s.separate.stems_dir] == f"{s.separate} {s.features}", "nothing is separated twice"
        else:
            assert not stems & seen
        separated[s.separate.stems_dir] = f"{s.separate} {s.features}"
        places = {
            s.remix.remix_dir,
            s.remix.features_path,
            s.train.checkpoint_dir,
            s.train.log_dir,
            s.report.report_dir,
            s.evaluate.evaluate_dir,
        }
        assert len(places) == 6
        assert not places & seen
        seen |= places | stems


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  batch_size: 4\n")
    return path


def refused(config: Path | str, *overrides: str, **values: object) -> MixstyleError:
    """What is raised; the message is one line."""
    with pytest.raises(MixstyleError) as caught:
        load_settings(config, overrides, values)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_name_that_stands_twice_and_a_folder_called_yaml_are_told(tmp_path: Path) -> None:
    path = tmp_path / "twice.yaml"
    for text, name in (
        ("train: {batch_size: 4, seed: 1, batch_size: 8}\n", "batch_size"),
        ("train: {batch_size: 4}\ntrain: {seed: 1}\n", "train"),
    ):
        path.write_text(text)
        error = refused(path)
        assert (error.code, name in error.message.replace(str(path), "")) == ("bad-setting", True)
    for text in ("? [a, b]\n: 1\n", "? {a: 1}\n: 2\n", "train: {1: 2, 1: 3}\n"):
        path.write_text(text)
        assert refused(path).code in ("bad-setting", "unknown-setting")
    path.write_text("train: {<<: {batch_size: 4, seed: 1}, batch_size: 8}\n")  # a merge is laid under
    assert (load_settings(path).train.batch_size, load_settings(path).train.seed) == (8, 1)
    (tmp_path / "folder.yaml").mkdir()
    assert "folder" in refused(tmp_path / "folder.yaml").message.replace(str(tmp_path / "folder.yaml"), "")


def test_overrides_win_in_order(profile: Path) -> None:
    settings = load_settings(profile, ["train.batch_size=6", "train.channels=[4, 8]", "separate.num_overlap=2"])
    assert (settings.train.batch_size, settings.train.channels, settings.separate.num_overlap) == (6, (4, 8), 2)
    settings = load_settings(profile, ["train.batch_size=6"], {"train.batch_size": 8, "separate.data_path": "a: #b"})
    assert (settings.train.batch_size, settings.separate.data_path) == (8, Path("a: #b"))


def test_numbers_are_taken_as_people_write_them(profile: Path) -> None:
    settings = load_settings(profile, ["train.learning_rate=1e-3", "train.clip_duration_s=3"])
    assert settings.train.learning_rate == 1e-3, "YAML 1.1 reads 1e-3 as text"
    assert isinstance(settings.train.clip_duration_s, float), "a whole number is stored as 3.0, as ever"


@pytest.mark.parametrize(
    "text", ["/music/#1 hits", "/music/a #b", "a: b", "[1, 2]", "{x}", "2024", "null and more", "true", "a 'b'"]
)
def test_paths_and_texts_are_taken_as_they_stand(profile: Path, text: str) -> None:
    settings = load_settings(profile, [f"separate.data_path={text}", f"train.stems_url={text}"])
    assert (settings.separate.data_path, settings.train.stems_url) == (Path(text), text)
    assert load_settings(profile, [f"separate.tracks_csv={text}"]).separate.tracks_csv == Path(text)


def test_quotes_around_a_path_are_left_out_and_null_is_none(profile: Path) -> None:
    assert load_settings(profile, ["separate.data_path='a #b'"]).separate.data_path == Path("a #b")
    for nothing in ("null", "~", ""):
        assert load_settings(profile, [f"separate.tracks_csv={nothing}"]).separate.tracks_csv is None


def test_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.yaml"
    path.write_text("separate:\n  data_path: ~/music\nevaluate:\n  checkpoints: [~/a.pt, ~b]\n")
    settings = load_settings(path, ["report.checkpoint=~/c.pt"], {"separate.stems_dir": Path("~/stems")})
    home = tmp_path / "home"
    assert settings.separate.data_path == home / "music"
    assert settings.separate.stems_dir == home / "stems"
    assert settings.evaluate.checkpoints == (home / "a.pt", Path("~b"))
    assert settings.report.checkpoint == home / "c.pt"
    assert plain(settings)["separate"]["data_path"] == f"{home}/music", "as a shell would have given it"


@pytest.mark.parametrize(
    ("override", "should"),
    [
        ("train.batch_size=three", "a whole number"),
        ("train.batch_size=2.5", "a whole number"),
        ("train.batch_size=true", "a whole number"),
        ("train.batch_size=1", "2 or more"),
        ("train.batch_size=5", "processes"),
        ("train.temperature=0", "0.0001 or more"),
        ("train.learning_rate=0", "above 0"),
        ("train.workers=99999999999", "1024 or less"),
        ("train.temperature=.nan", "a finite number"),
        ("train.aug_prob=1.5", "1 or less"),
        ("train.dropout=1", "below 1"),
        ("train.device=tpu", "auto, cpu, cuda or cuda:N"),
        ("separate.devices=[auto]", "cpu, cuda or cuda:N"),
        ("separate.devices=[cpu, cuda]", "one kind"),
        ("train.channels=5", "a list"),
        ("train.channels=[5]", "2 or more"),
        ("train.channels=[5, 0]", "1 or more"),
        ("train.chain_effects=[4, 2]", "[least, most]"),
        ("train.hop_length=2048", "train.n_fft"),
        ("train.band_step=21", "train.band_mels"),
        ("train.loudness_match=1", "true or false"),
        ("train.clip_duration_s=11", "separate.clip_s"),
        ("separate.precision=fp8", "fp32, bf16, fp16"),
        ("separate.clips_per_track=1", "2 or more"),
        ("separate.validation_fraction=0.95", "separate.test_fraction"),
        ("separate.num_overlap=0", "1 or more"),
        ("separate.data_path=", "a path"),
        ("demo_songs.duration_s=7", "8 or more"),
        ("evaluate.tasks=[]", "1 or more"),
        ("evaluate.tasks=[dance]", "same-chain"),
        ("evaluate.effects=[1, 1]", "once"),
    ],
)
def test_wrong_values_are_refused_by_name(profile: Path, override: str, should: str) -> None:
    processes = ["train.processes=2"] if "processes" in should else []
    error = refused(profile, *processes, override)
    assert error.code == "bad-setting"
    assert override.partition("=")[0] + "=" in str(error)
    assert should in str(error)


def test_a_wrong_value_tells_where_it_is_from(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  n_mels: many\n  n_fft: 0\n")
    error = refused(path, "train.seed=-1", **{"train.workers": -1})
    for told in (f"{path}: train.n_mels=", f"{path}: train.n_fft=", "--set: train.seed=", "command line: train.work"):
        assert told in str(error)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("train.max_step", "train.max_steps"),
        ("train.batchsize", "train.batch_size"),
        ("train.num_overlap", "separate.num_overlap"),
        ("trains.batch_size", "train"),
        ("evaluate.batch_clip", "evaluate.batch_clips"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(profile: Path, name: str, meant: str) -> None:
    error = refused(profile, f"{name}=3")
    assert error.code == "unknown-setting"
    assert str(error).endswith(f"did you mean {meant}?")
    section, _, key = name.partition(".")
    profile.write_text(f"{section}:\n  {key}: 3\n")
    error = refused(profile)
    assert error.code == "unknown-setting"
    assert str(profile) in str(error)


def test_a_name_like_no_other_lists_what_there_is(profile: Path) -> None:
    error = refused(profile, "report.xyzzy=3")
    assert error.code == "unknown-setting"
    assert all(name in str(error) for name in ("report_dir", "checkpoint", "split"))


def test_an_override_without_section_tells_how_to_write_it(profile: Path) -> None:
    error = refused(profile, "num_overlap=2")
    assert error.code == "bad-option"
    assert "separate.num_overlap=2" in str(error)


def test_a_profile_that_an_override_completes_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  clip_duration_s: 12.0\n")
    assert refused(path).code == "bad-setting"
    assert load_settings(path, ["separate.clip_s=12"]).train.clip_duration_s == 12


def test_commands_that_train_nothing_take_clips_shorter_than_a_training_needs(profile: Path) -> None:
    short = ["separate.clip_s=3", "separate.clips_per_track=1"]
    assert refused(profile, *short).code == "bad-setting"
    settings = load_settings(profile, short, training=False)
    assert (settings.separate.clip_s, settings.separate.clips_per_track) == (3.0, 1)
    assert from_plain(plain(settings)) == settings, "as a worker gets them"


def test_a_folder_is_no_profile(tmp_path: Path) -> None:
    error = refused(tmp_path)
    assert error.code == "not-found"
    assert "no profile" not in str(error)


@pytest.mark.parametrize("override", ["train.batch_size=", "train.batch_size=[", "x", "train.", "train.device="])
def test_a_long_value_is_not_repeated_in_full(profile: Path, override: str) -> None:
    assert len(str(refused(profile, override + "x" * 5000))) < 1000  # 200 of the value twice, and the words


def test_files_that_are_not_settings(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    for text in ("- 1\n", "train: 5\n", "a: [\n", "profile: 5\n"):
        path.write_text(text)
        error = refused(path)
        assert error.code == "bad-setting"
    for missing in (tmp_path / "nowhere.yaml", "nowhere"):
        error = refused(missing)
        assert error.code == "not-found"
        assert "nowhere" in str(error)


def test_plain_settings_survive_yaml() -> None:
    settings = Settings()
    assert from_plain(yaml.safe_load(yaml.safe_dump(plain(settings)))) == settings
    assert yaml.safe_load(yaml.safe_dump(plain(settings))) == plain(settings)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_profile_holds_what_the_dvc_pipeline_asks_for(path: Path) -> None:
    asked = set(re.findall(r"\$\{([\w.]+)\}", (path.parent.parent / "dvc.yaml").read_text()))
    assert len(asked) > 5
    data = yaml.safe_load(path.read_text())
    for name in asked:
        section, _, key = name.partition(".")
        assert section in data, name
        assert not key or key in data[section], name
