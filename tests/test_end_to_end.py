"""The commands as a user runs them, one after the other, on rendered songs with the shipped separator."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.paths import ROOT

from mixstyle.stages import cli

Commands = Callable[..., tuple[object, str, str]]
SEPARATOR = ROOT / "Music-Source-Separation-Training"
PROFILE: dict[str, Any] = {
    "profile": "small",
    "demo_songs": {"output_dir": "songs", "songs": 5, "duration_s": 24.0},
    "separate": {
        "data_path": "songs/songs",
        "stems_dir": "stems",
        "separator_config": str(SEPARATOR / "configs" / "scnet_tiny.yaml"),
        "separator_checkpoint": str(SEPARATOR / "scnet_tiny_2.safetensors"),
        "clips_per_track": 2,
        "tracks_per_shard": 2,
        "validation_fraction": 0.0,
        "test_fraction": 0.0,
        "num_overlap": 1,
        "device": "cpu",
    },
    "remix": {
        "remix_dir": "remix",
        "features_path": "remix.zarr",
        "blocks": 3,
        "contents": 2,
        "chains_per_block": 2,
        "blocks_per_shard": 2,
        "own_share": 0.34,
        "num_overlap": 1,
        "device": "cpu",
    },
    "features": {"features_path": "features.zarr", "device": "cpu"},
    "train": {
        "checkpoint_dir": "checkpoints",
        "log_dir": "logs",
        "device": "cpu",
        "batch_size": 2,
        "num_epochs": 2,
        "clip_duration_s": 4.0,
        "channels": [4, 8],
        "encoder_dim": 32,
        "hop_length": 512,
        "workers": 1,
    },
    "report": {"report_dir": "report", "device": "cpu"},
}


def mixstyle(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mixstyle.stages", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "COLUMNS": "120"})


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every stage has run."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "small.yaml").write_text(yaml.safe_dump(PROFILE))
    for stage in ("demo-songs", "separate", "remix", "features", "train", "report"):
        done = mixstyle(stage, "--config", "small.yaml", cwd=folder)
        assert done.returncode == 0, f"{stage}: {done.stdout}\n{done.stderr}"
    return folder


@pytest.mark.slow
def test_every_stage_leaves_what_it_says(finished: Path) -> None:
    assert len(list((finished / "songs" / "songs").glob("*.flac"))) == 5
    assert len(list((finished / "stems").glob("stems-*.tar"))) == 3
    assert len(list((finished / "remix").glob("stems-*.tar"))) == 2
    for store in ("features.zarr", "remix.zarr"):
        assert (finished / store).is_dir()
    for name in ("best_model.pt", "final_model.pt"):
        assert (finished / "checkpoints" / name).is_file()
    assert list((finished / "logs").rglob("events.out.tfevents.*"))
    assert "<html" in (finished / "report" / "report.html").read_text()
    metrics = json.dumps(json.loads((finished / "report" / "metrics.json").read_text()))
    for row in ("trained", "raw", "untrained"):
        assert row in metrics


@pytest.mark.slow
def test_a_second_run_does_nothing(finished: Path) -> None:
    kept = {
        p: p.stat().st_mtime_ns for name in ("stems", "remix", "checkpoints") for p in (finished / name).glob("*.*")
    }
    for stage in ("demo-songs", "separate", "remix", "features", "train"):
        assert mixstyle(stage, "--config", "small.yaml", cwd=finished).returncode == 0
    changed = [p.name for p, time in kept.items() if p.suffix in {".tar", ".pt"} and p.stat().st_mtime_ns != time]
    assert not changed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "override"),
    [
        ("demo-songs", "demo_songs.seed=5"),
        ("separate", "separate.num_overlap=2"),
        ("remix", "remix.mixed_share=0.5"),
        ("train", "train.temperature=0.2"),
    ],
)
def test_changed_settings_are_named_and_nothing_is_lost(finished: Path, stage: str, override: str) -> None:
    before = sorted(p.name for p in (finished / "stems").iterdir())
    done = mixstyle(stage, "--config", "small.yaml", "--set", override, cwd=finished)
    assert done.returncode == 1
    *notes, line = done.stderr.strip().splitlines()
    # Before the refusal: notes, and what was measured of the separator (the batch is one of the settings compared).
    assert all(note.startswith(("mixstyle: note: ", "separation: ")) for note in notes)
    assert override.partition(".")[2].partition("=")[0] in line
    assert "--rebuild" in line
    assert sorted(p.name for p in (finished / "stems").iterdir()) == before


@pytest.mark.slow
def test_status_tells_what_is_done(finished: Path) -> None:
    done = mixstyle("status", "--config", "small.yaml", cwd=finished)
    assert done.returncode == 0
    for stage in ("separate", "remix", "features", "train", "report"):
        assert f"{stage}: done" in done.stdout


@pytest.mark.slow
def test_dvc_runs_every_stage_once(tmp_path: Path) -> None:
    profile = copy.deepcopy(PROFILE)
    profile["separate"] |= {"test_fraction": 0.4}  # 2 of 5 songs, which an evaluation needs
    profile["evaluate"] = {"evaluate_dir": "evaluation", "device": "cpu", "tasks": ["same-chain", "songs"]}
    profile["evaluate"] |= {"chains": 10, "effects": [1], "workers": 0}
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.yaml").write_text(yaml.safe_dump(profile))
    pipeline = (ROOT / "dvc.yaml").read_text()
    assert pipeline.count("configs/demo.yaml") == 1, "the profile should be named in one line"
    (tmp_path / "dvc.yaml").write_text(pipeline.replace("configs/demo.yaml", "configs/small.yaml"))
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"}

    def dvc(*arguments: str) -> str:
        command = [sys.executable, "-m", "dvc", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        return done.stdout

    dvc("init", "--no-scm", "-q")
    ran = dvc("repro")
    for stage in ("demo-songs", "separate", "remix", "features", "train", "report", "evaluate"):
        assert f"Running stage '{stage}'" in ran
    shown = json.loads(dvc("metrics", "show", "--json"))[""]["data"]
    assert len(shown) == 2
    assert all("data" in metrics for metrics in shown.values())
    assert "Running stage" not in dvc("repro")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Commands:
    """Runs a command in this process, in a folder with a profile: exit status, standard output, standard error."""
    (tmp_path / "empty.yaml").write_text("train:\n  device: cpu\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["mixstyle", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, errors = capsys.readouterr()
        return ended.value.code, out, errors

    return run


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("separate", "--config", "nowhere"), "nowhere"),
        (("separate", "--config", "empty.yaml", "--data-path", "no/such/folder"), "no/such/folder"),
        (("features", "--config", "empty.yaml"), "separate.data_path"),
        (("remix", "--config", "empty.yaml", "--set", "remix.blocks=1"), "separate.data_path"),
        (("train", "--config", "empty.yaml"), "separate.data_path"),
        (("train", "--config", "empty.yaml", "--temperature", "0"), "train.temperature"),
        (("report", "--config", "empty.yaml"), "mixstyle"),
        (("demo-songs", "out", "--config", "empty.yaml", "--duration", "1"), "duration_s"),
    ],
)
def test_a_users_mistake_is_one_clear_line(here: Commands, arguments: tuple[str, ...], named: str) -> None:
    status, _, errors = here(*arguments)
    assert status == 1
    (line,) = errors.strip().splitlines()
    assert line.startswith("mixstyle: error: ")
    assert named in line


@pytest.mark.parametrize("stage", ["demo-songs", "separate", "remix", "features", "train", "report", "status"])
def test_help_shows_examples(stage: str, here: Commands) -> None:
    status, out, _ = here(stage, "--help")
    assert status == 0
    assert f"mixstyle {stage}" in out
    assert "Example" in out


@pytest.mark.slow
def test_a_process_tells_the_same_and_ends_with_1(here: Commands, tmp_path: Path) -> None:
    arguments = ("train", "--config", "empty.yaml", "--temperature", "0")
    done = mixstyle(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == here(*arguments)
