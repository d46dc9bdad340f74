"""`mixstyle doctor` as it is typed: whole, on machines that lack something, and without what is nobody's business."""

import hashlib
import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
import torch
import yaml
from helpers.small_encoder import embedding_profile, write_encoder
from helpers.small_separator import write_songs
from typer.testing import CliRunner

from mixstyle.cache.models.exports import load_encoder
from mixstyle.pipeline.separation.separator_checkpoint import digest
from mixstyle.stages.cli import app
from mixstyle.stages.doctor.devices import device_problems
from mixstyle.stages.doctor.disk import disk_section, file_system_of
from mixstyle.stages.doctor.findings import Failure
from mixstyle.stages.doctor.stage import doctor
from mixstyle.stages.settings.profile import load_settings

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _little_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mixstyle.cache.storage.disk_trial.disk_speed.__defaults__", (1_000_000,))


def typed(*words: object) -> str:
    result = CliRunner().invoke(app, ["doctor", *(str(word) for word in words)])
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.output


def test_the_report_is_what_the_machine_has(tmp_path: Path) -> None:
    music = write_songs(tmp_path / "secret songs", 1)
    embedding_profile(tmp_path, music)
    encoder = write_encoder(tmp_path / "encoder.safetensors")
    profile = tmp_path / "profile.yaml"
    report = json.loads(typed("--config", profile, "--set", f"embed.encoder={encoder}", "--folder", tmp_path, "--json"))
    sections = report["sections"]
    assert sections["devices"]["threads"] == torch.get_num_threads()
    assert torch.__version__.startswith(sections["versions"]["torch"])
    assert sections["disk"]["total_bytes"] == shutil.disk_usage(tmp_path).total
    assert sections["disk"]["locks_work"] is True
    assert sections["disk"]["measured_with_bytes"] == 1_000_000
    models = sections["models"]
    assert models["encoder"]["sha256"] == hashlib.sha256(encoder.read_bytes()).hexdigest()[:12]
    assert models["encoder"]["fingerprint"] == digest(load_encoder(encoder).encoder.state_dict())
    chosen = yaml.safe_load(profile.read_text())["separate"]["separator_checkpoint"]
    assert models["separator"]["sha256"] == hashlib.sha256(Path(chosen).read_bytes()).hexdigest()[:12]
    assert (models["encoder"]["loads"], models["separator"]["loads"]) == (True, True)
    assert "secret" not in json.dumps(report)  # the folder of music
    assert "note" not in models["separator"]


def test_a_wrong_profile_and_a_wrong_model_are_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    wrong = ("--config", "nothing-of-this-name")
    report = json.loads(typed(*wrong, "--json"))
    assert "nothing-of-this-name" in report["sections"]["profile"]["loads"]["error"]
    assert report["sections"]["disk"]["locks_work"] is True, "the rest is told all the same"
    (problem,) = (problem for problem in report["problems"] if "nothing-of-this-name" in problem["what"])
    assert problem["what"] in typed(*wrong)
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    torn = ("--set", f"embed.encoder={tmp_path / 'torn.safetensors'}", "--folder", tmp_path / "not" / "there")
    report = json.loads(typed(*torn, "--json"))
    assert "torn.safetensors" in report["sections"]["models"]["encoder"]["loads"]["error"]
    assert report["sections"]["models"]["separator"]["loads"] is True
    (encoder,) = (problem for problem in report["problems"] if "torn.safetensors" in problem["what"])
    assert "small one" in report["sections"]["models"]["separator"]["note"]  # the profile demo's, which is no mistake
    assert report["sections"]["disk"]["folder"] == "~"
    told = typed(*torn)
    assert all(encoder[part] in told for part in ("what", "remedy"))
    for text in (json.dumps(report), told):
        assert str(tmp_path) not in text
        assert "Traceback" not in text


def test_a_folder_that_was_removed_under_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    found = {section.name: section for section in doctor(lambda: load_settings("nothing-of-this-name"))}
    assert isinstance(found["disk"].facts["disk"], Failure)
    assert found["memory"].facts["total_bytes"] > 0
    assert "profile" in found


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="no folder that takes files from nobody")
def test_a_folder_that_takes_no_files_and_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = disk_section(Path("/proc/self"))
    assert isinstance(found.facts["can_be_written"], Failure)
    assert "/proc/self" in found.problems[-1].what
    Usage = namedtuple("Usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**10, 10**10 - 5, 5))
    found = disk_section(tmp_path)
    assert isinstance(found.facts["speed"], Failure)
    assert len(found.problems) == 1
    assert "separate.stems_dir=" in found.problems[0].remedy
    told = typed("--config", "cpu", "--set", f"separate.stems_dir={tmp_path}")
    given = f"--config cpu --set separate.stems_dir={tmp_path}"
    assert (
        f"mixstyle separate {given} --set separate.stems_dir=/another/folder" in told
    )  # of settings that are given twice, the last counts


def test_the_last_mount_that_holds_a_folder_tells_its_file_system(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/a / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n/dev/b {tmp_path}x xfs rw 0 0\n")
    assert file_system_of(tmp_path / "deep", mounts) == "nfs4"
    assert file_system_of(Path("/"), mounts) == "ext4"
    assert file_system_of(tmp_path, tmp_path / "none") is None


def test_a_card_that_torch_does_not_find() -> None:
    facts = {"torchaudio_loads": True, "devices": {"cpu": "no CUDA device found"}, "nvidia_driver": "570.1"}
    (problem,) = device_problems(facts | {"cuda_of_torch": None})
    assert ("570.1" in problem.what, "None" in problem.what) == (True, False)
    (other,) = device_problems(facts | {"cuda_of_torch": "99.9"})
    assert ("99.9" in other.what, "570.1" in other.what) == (True, True)
    assert not device_problems(facts | {"cuda_of_torch": None, "nvidia_driver": None})
    (problem,) = device_problems(facts | {"torchaudio_loads": Failure("undefined symbol"), "nvidia_driver": None})
    assert "torchaudio" in problem.what
    assert "torchaudio" in problem.remedy
