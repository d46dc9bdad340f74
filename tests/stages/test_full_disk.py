"""Commands whose outputs outgrow the disk that they are written to: one line, nothing torn, and with room on the disk
the same command ends as one that was never refused.

Each command runs in a process with mounts of its own, its outputs on a disk in memory with too little room for them.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile
from helpers.command_folder import COMMANDS, CONFIG, write_indexed, write_trained
from helpers.small_cache import stems_of
from helpers.typed import content, run
from torture.outcomes import UNCOMPARED, _equal

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.evaluate import musdb

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[1]
SHARES = (0.0, 0.3, 0.6, 0.9)
"""Of what the command writes."""
BLOCK_BYTES = 4096
ENDLESS = 1 << 30
MOUNT = ("unshare", "--mount", "--map-root-user")
TRAINED = {
    "train": ("checkpoint_dir", "log_dir", "mels_dir"),
    "evaluate": ("evaluate_dir", "bank_dir"),
    "report": ("report_dir",),
    "export": (),
}
"""Commands that need a training, and what their outputs are called in the profile."""
MUSDB = ("evaluate-musdb", "musdb", "OUT", "--config", "p.yaml", "--chains", "10", "--effects", "1")
"""In the folder of `write_indexed`, beside songs in MUSDB's layout."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_indexed(tmp_path_factory.mktemp("indexed"))
    for seed in range(3):
        song = folder / "musdb" / "test" / f"Artist - {seed}"
        song.mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(seed, 2.0), strict=True):
            soundfile.write(song / f"{stem}.wav", audio.T, SAMPLE_RATE, subtype="PCM_16")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trained(tmp_path_factory.mktemp("trained"))


def words_of(command: str) -> tuple[str, ...]:
    """The command as it is typed. OUT: where it writes to."""
    if command == MUSDB[0]:
        return MUSDB
    if command not in TRAINED:
        return (command, *COMMANDS[command])
    outputs = (f"{command}.{key}=OUT/{key}" for key in TRAINED[command])
    into = [word for output in outputs for word in ("--set", output)]
    return (command, *(["OUT/encoder.safetensors"] if command == "export" else []), *CONFIG, *into)


@pytest.mark.parametrize("command", [*COMMANDS, *TRAINED, MUSDB[0]])
def test_a_full_disk_costs_a_line_and_nothing_else(
    folder: Path, trained: Path, tmp_path: Path, record_property: Callable[[str, object], None], command: str
) -> None:
    if shutil.which("unshare") is None or subprocess.run([*MOUNT, "true"], capture_output=True).returncode:
        pytest.skip("this system makes no mount namespaces")
    words = [word.replace("OUT", str(tmp_path / "disk" / "out")) for word in words_of(command)]
    code = f"import sys; sys.path[:0] = {[str(TESTS), str(TESTS / 'stages')]!r}\n"
    code += f"from test_full_disk import in_own_mounts\nin_own_mounts({str(tmp_path)!r}, {words!r})"
    done = subprocess.run(
        [*MOUNT, sys.executable, "-c", code],
        cwd=trained if command in TRAINED else folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    assert len(found) == len(SHARES)
    record_property("tried", len(found))
    for trial in found:
        assert trial["status"] == 1, trial
        errors = [line for line in trial["said"].splitlines() if line.startswith("mixstyle: error: ")]
        assert len(errors) == 1, trial
        assert str(tmp_path / "disk") in errors[0], trial
        assert "Traceback" not in trial["said"], trial
        assert trial["partial"] == [], trial
        assert trial["then"] == 0, trial
        assert trial["differs"] == [], trial


def in_own_mounts(place: str, words: list[str]) -> None:
    """In a process of its own: the command without a limit, then with too little room, and again with room."""
    disk = Path(place) / "disk"
    disk.mkdir()
    musdb.CLIP_S = 0.6  # seconds of the songs above; MUSDB's own clips would take a minute each time
    log = Path(place) / "said.txt"
    handle = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(handle, number)
    mount(disk, ENDLESS)
    assert run(*words) == 0
    unbroken = Path(place) / "unbroken"
    shutil.copytree(disk, unbroken)
    blocks = sum(-(-len(data) // BLOCK_BYTES) for data in content(disk).values())
    found: list[dict[str, Any]] = []
    for share in SHARES:
        subprocess.run(["umount", str(disk)], check=True)
        mount(disk, (blocks + 1) * BLOCK_BYTES)
        left = min(int(share * blocks), blocks - 1)
        (disk / "another file").write_bytes(bytes((blocks + 1 - left) * BLOCK_BYTES))
        log.write_text("")
        status = run(*words)
        sys.stdout.flush()
        sys.stderr.flush()
        trial = {"share": share, "status": status, "said": log.read_text()[-3000:]}
        trial["partial"] = [name for name in content(disk) if name.endswith(".partial")]
        mount(disk, ENDLESS, "remount")
        trial["then"] = run(*words)
        (disk / "another file").unlink()
        trial["differs"] = differences(disk, unbroken, words[0])
        found.append(trial)
    (Path(place) / "found.json").write_text(json.dumps(found))


def mount(disk: Path, size: int, how: str = "rw") -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"{how},size={size}", "tmpfs", str(disk)], check=True)


def differences(ours: Path, theirs: Path, command: str) -> list[str]:
    """Files that one has and the other has not, or that are other."""
    here, there = content(ours), content(theirs)
    if command == "index":  # whose parts tell in how many goes they were made
        return [] if len(here) >= len(there) else ["incomplete"]
    kept = {name for name in {*here, *there} if not name.endswith(".lock") and name.split("/")[1] not in UNCOMPARED}
    kept = {name for name in kept if "log_dir/" not in name}
    return [
        name for name in sorted(kept) if not (name in here and name in there and _equal(ours / name, theirs / name))
    ]
