"""A little of what `kills.py` does for as long as one likes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import TESTS


@pytest.mark.slow
def test_commands_that_are_killed_at_random_end_as_unbroken_ones(tmp_path: Path) -> None:
    """In a process of its own: its commands are forked from it, which needs one without threads."""
    words = [sys.executable, str(TESTS / "torture" / "kills.py"), "--folder", str(tmp_path / "torture")]
    few = ["--trials", "12", "--stages", "separate,features", "--kinds", "kill"]
    ran = subprocess.run([*words, *few], capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    journal = (tmp_path / "torture" / "journal.jsonl").read_text().splitlines()
    assert sum(json.loads(line)["met"] == "killed" for line in journal) > 3
