"""A little of what `kills.py` does for as long as one likes: kills at counted writes, which no speed of a machine moves."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.paths import TESTS

TRIALS = 8


@pytest.mark.slow
def test_commands_that_are_killed_at_a_write_end_as_unbroken_ones(tmp_path: Path) -> None:
    """In a process of its own: its commands are forked from it, which needs one without threads."""
    words = [sys.executable, str(TESTS / "torture" / "kills.py"), "--folder", str(tmp_path / "torture")]
    few = ["--trials", str(TRIALS), "--stages", "separate,features", "--kinds", "kill at a write"]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run([*words, *few], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    trials = [json.loads(line) for line in (tmp_path / "torture" / "journal.jsonl").read_text().splitlines()]
    assert {trial["stage"] for trial in trials} == {"separate", "features"}
    assert sum(trial["met"] == "killed" for trial in trials) >= TRIALS - 2  # a count may differ by a lock that was held
    other = subprocess.run([*words, *few, "--seed", "1"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (other.returncode, "another seed" in other.stderr) == (1, True)
