"""A few minutes of torture, in the suite: by hand the same commands go on for as long as one likes.

Stems behind faults are in `cache/stem_store/test_place.py`, clusters in `stages/cluster/test_ray.py`.
"""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.s3_server import program

pytestmark = pytest.mark.slow
TORTURE = Path(__file__).parent / "torture"
LIMIT_S = 1800
"""A few minutes where nothing else runs; many times that on a busy machine."""

STORE_RUNS = 2
"""Each of three workers and a reader; seconds where nothing else runs."""


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


@pytest.mark.skipif(
    "MIXSTYLE_SOAK" not in os.environ,
    reason="its training gets no processor beside other tests: MIXSTYLE_SOAK=1 on a machine that does nothing else",
)
def test_a_soak_tells_the_memory_of_a_training_that_runs_beside_the_kills(tmp_path: Path) -> None:
    options = ("--folder", str(tmp_path), "--minutes", "0.3", "--soak", "--stages", "train,embed", "--kinds", "kill")
    found = entries("kills.py", tmp_path / "journal.jsonl", *options)
    assert [one["problem"] for one in found if one["problem"]] == []
    rows = [[float(value) for value in row] for row in list(csv.reader((tmp_path / "memory.csv").open()))[1:]]
    assert len(rows) == len(found) > 0  # a value after each trial
    # torch alone takes more; the training was there all the while
    assert all(mb > 50 and 0 < own_mb <= mb and n >= 1 for _, mb, own_mb, n in rows)
    assert (tmp_path / "memory.png").stat().st_size > 0


@pytest.mark.parametrize("what", ["features", "checkpoints", "index"])
def test_what_is_kept_behind_faults_ends_as_in_a_folder(what: str, tmp_path: Path) -> None:
    program()
    options = ("--what", what, "--runs", str(STORE_RUNS), "--share", "0.3", "--journal", str(tmp_path / "runs.jsonl"))
    head, *runs = entries("store_faults.py", tmp_path / "runs.jsonl", *options)
    assert (head["what"], [run["run"] for run in runs]) == (what, [*range(STORE_RUNS)])
    faults = sum(count for run in runs for fault, count in run["met"].items() if fault)
    assert faults >= 3 * STORE_RUNS  # the proxy was in the way
