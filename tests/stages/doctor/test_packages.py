"""Versions, pairs that do not match, and the commands that install what is missing."""

import re
import shlex
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from helpers.paths import ROOT

from mixstyle.stages.doctor import packages
from mixstyle.stages.doctor.packages import OPTIONAL, pair_problems, requirement, versions_section

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_versions_are_those_that_the_packages_have() -> None:
    import numpy
    import zarr

    facts = versions_section().facts
    assert (facts["numpy"], facts["zarr"]) == (numpy.__version__, zarr.__version__)
    assert facts["mixstyle"] == PROJECT["version"]


@pytest.mark.parametrize(
    ("torch", "torchaudio", "wrong"),
    [
        ("2.11.0", "2.11.0", False),
        ("2.11.1", "2.11.0", False),
        ("2.11.0", "2.11.1", True),
        ("2.11.0+cpu", "2.11.0+cpu", False),
        ("2.11.0+cu130", "2.11.0", False),
        ("2.12.0", "2.11.0", True),
        ("2.11.0+cpu", "2.11.0+cu130", True),
    ],
)
def test_torch_and_torchaudio_are_a_pair(torch: str, torchaudio: str, wrong: bool) -> None:
    found = pair_problems(torch, torchaudio)
    assert bool(found) == wrong
    if wrong:
        words = shlex.split(found[0].remedy)
        assert words[-2:] == ["torch==2.11.*", "torchaudio==2.11.0"]


def test_torchaudio_is_asked_for_by_the_version_that_is_tested() -> None:
    # not by a range: 2.11.1 needs a function that torch 2.11 lacks
    assert requirement("torchaudio") in (ROOT / "constraints.txt").read_text().splitlines()


def test_every_extra_is_an_optional_part() -> None:
    names = {re.split(r"\W", one)[0] for extra in PROJECT["optional-dependencies"].values() for one in extra}
    assert names <= set(OPTIONAL)
    assert {requirement("s3fs"), requirement("multiafx")} == {"s3fs>=2025.3", "multiafx==0.1.1"}


def test_what_is_missing_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    there = metadata.version

    def version(name: str) -> str:
        if name in ("zarr", "s3fs"):
            raise metadata.PackageNotFoundError(name)
        return there(name)

    monkeypatch.setattr(metadata, "version", version)
    (problem,) = versions_section().problems
    assert problem.what.split()[0] == "zarr"
    assert set(shlex.split(problem.remedy)[-1].removeprefix("zarr").split(",")) == {">=3.1", "<4"}
    monkeypatch.setattr("mixstyle.cache.music.ffmpeg.installed", lambda: None)
    facts = packages.optional_section().facts
    assert facts["s3fs"].startswith("missing")
    commands = facts["to_get_them"]
    assert len([command for command in commands if "s3fs>=2025.3" in command]) == 1
    assert "ffmpeg" in commands[-1]


def test_the_version_of_ffmpeg_is_its_own_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\necho 'ffmpeg version 6.1.1-3ubuntu5 Copyright (c) 2000-2023'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.ffmpeg_version() == "6.1.1-3ubuntu5"
