"""The four examples of docs/extending.md: each file is put where its first line says, and its tests are run."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

_BLOCK = re.compile(r"^```python\n# (\S+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PACKAGES = {"pipeline": "pipeline", "cache": "cache", "stages": "stages", "configs": "configs"}


def blocks() -> dict[str, str]:
    """The code of each file on the page."""
    text = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
    found = dict(_BLOCK.findall(text))
    assert len(found) == text.count("```python"), "a block does not say its file, or two say the same"
    return found


def copied(folder: Path) -> Path:
    """mixstyle's sources as one importable package in a folder."""
    package = folder / "mixstyle"
    ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(ROOT / "api", package, ignore=ignored)
    for source, name in PACKAGES.items():
        for path in (ROOT / source).rglob("*.py"):
            target = package / name / path.relative_to(ROOT / source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    return package


@pytest.mark.slow
def test_the_examples_work_by_one_file_and_its_test(tmp_path: Path) -> None:
    package, found = copied(tmp_path), blocks()
    code = [name for name in found if not name.startswith("tests/")]
    tests = [name for name in found if name.startswith("tests/")]
    assert [name.split("/")[1] for name in code] == ["mixing", "descriptors", "encoder", "separation"]
    assert len(tests) == len(code)
    for name, text in found.items():
        path = tmp_path / name if name in tests else package / name
        assert not path.exists(), f"{name} is there: an example should be a new file"
        assert name in tests or path.parent.is_dir(), f"{name}: there is no such package"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, *tests],
        cwd=tmp_path,
        # plugins of other packages take seconds to load, and the examples need none
        env={
            **os.environ,
            "PYTHONPATH": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^5 passed", ran.stdout, re.MULTILINE), ran.stdout


def test_the_code_is_formatted(tmp_path: Path) -> None:
    for name, text in blocks().items():
        path = tmp_path / name.replace("/", "__")
        path.write_text(text)
    for command in (
        ["check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "S101"],
        ["format", "--check", "--line-length=120"],
    ):
        ran = subprocess.run([sys.executable, "-m", "ruff", *command, tmp_path], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr
