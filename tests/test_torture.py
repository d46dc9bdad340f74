"""A few minutes of torture, in the suite: by hand the same commands go on for as long as one likes.

Stems behind faults are in `cache/stem_store/test_kept_shards.py`, clusters in `stages/cluster/test_ray.py`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
TORTURE = Path(__file__).parent / "torture"
LIMIT_S = 1800
"""A few minutes where nothing else runs; many times that on a busy machine."""


def entries(script: str, journal: Path, *options: str) -> list[dict[str, Any]]:
    """The lines of a journal after a run, which has to end well."""
    done = subprocess.run(
        [sys.executable, str(TORTURE / script), *options],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return [json.loads(line) for line in journal.read_text().splitlines()]


def test_commands_that_are_killed_at_a_write_end_as_unbroken_ones(tmp_path: Path) -> None:
    options = ("--folder", str(tmp_path), "--trials", "8", "--stages", "separate,features", "--kinds")
    found = entries("kills.py", tmp_path / "journal.jsonl", *options, "kill at a write")
    assert (len(found), [one["problem"] for one in found if one["problem"]]) == (8, [])
    assert (
        sum(one["met"] == "killed" for one in found) >= 6
    )  # a worker that is killed alone may have had the last write
