"""Profiles load against their dataclasses, and wrong settings are refused by name."""

import re
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings, load_settings, plain

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


def test_profiles_share_no_folder() -> None:
    seen: set[Path] = set()
    for path in CONFIGS:
        s = load_settings(path)
        places = {
            s.separate.stems_dir,
            s.features.features_path,
            s.train.checkpoint_dir,
            s.train.log_dir,
            s.report.report_dir,
        }
        assert not places & seen
        seen |= places


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("train:\n  batch_size: 4\n")
    return path


def test_overrides_win_in_order(profile: Path) -> None:
    settings = load_settings(profile, ["train.batch_size=6", "train.channels=[4, 8]", "separate.num_overlap=2"])
    assert (settings.train.batch_size, settings.train.channels, settings.separate.num_overlap) == (6, (4, 8), 2)
    settings = load_settings(profile, ["train.batch_size=6"], {"train.batch_size": 8, "separate.data_path": "a: #b"})
    assert (settings.train.batch_size, settings.separate.data_path) == (8, Path("a: #b"))
    assert load_settings(profile, ["train.learning_rate=1e-3"]).train.learning_rate == 1e-3


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.batchsize=3", "train.batchsize"),
        ("trains.batch_size=3", "trains"),
        ("train.batch_size", "section.name=value"),
        ("train.batch_size=three", "train.batch_size='three' should be a whole number"),
        ("train.batch_size=2.5", "whole number"),
        ("train.batch_size=true", "whole number"),
        ("train.batch_size=1", "2 or more"),
        ("train.temperature=0", "train.temperature"),
        ("train.aug_prob=1.5", "train.aug_prob"),
        ("train.clip_duration_s=11", "separate.clip_s"),
        ("train.device=tpu", "train.device"),
        ("train.channels=5", "train.channels"),
        ("separate.precision=fp8", "fp32, bf16, fp16"),
        ("separate.clips_per_track=1", "clips_per_track"),
        ("separate.validation_fraction=0.95", "nothing to train on"),
    ],
)
def test_wrong_settings_are_refused_by_name(profile: Path, override: str, named: str) -> None:
    with pytest.raises(MixstyleError) as error:
        load_settings(profile, [override])
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_files_that_are_not_settings(tmp_path: Path) -> None:
    for text, named in [
        ("- 1\n", "sections"),
        ("train: 5\n", "train should be a section"),
        ("a: [\n", "not valid YAML"),
    ]:
        path = tmp_path / "bad.yaml"
        path.write_text(text)
        with pytest.raises(MixstyleError, match=named):
            load_settings(path)
    with pytest.raises(MixstyleError, match="nowhere"):
        load_settings(tmp_path / "nowhere.yaml")
    with pytest.raises(MixstyleError, match="no profile 'nowhere'"):
        load_settings("nowhere")


def test_plain_settings_survive_yaml() -> None:
    settings = Settings()
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
