"""A training from a bucket whose folder of kept clips is on a full disk: it goes on without the folder, told once, and
ends with the weights of a training that has room.

The disk is one in memory, in a process with mounts of its own; something else takes its room.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
import torch
from helpers.s3_server import BUCKET, reached, served
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, profile, rows_of, settings_of
from helpers.typed import run

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.stages.features.stage import features

pytestmark = pytest.mark.slow
TESTS = Path(__file__).parents[2]
MOUNT = ("unshare", "--mount", "--map-root-user")
BLOCK_BYTES = 4096


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if shutil.which("unshare") is None or subprocess.run([*MOUNT, "true"], capture_output=True).returncode:
        pytest.skip("this system makes no mount namespaces")
    folder = tmp_path_factory.mktemp("training")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    features(settings_of(folder / "inputs"))
    with served(folder / "s3") as address, reached(address):
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        for path in (folder / "stems").iterdir():
            fs.put_file(str(path), f"{BUCKET}/stems/{path.name}")
        assert trained(folder, "room", 1 << 16).status == 0
        yield folder


# 0: not even the settings and sidecars fit; 3: a few of them do; 24: all of them, and some clips.
@pytest.mark.parametrize(("reader", "free_blocks"), [("random", 0), ("stream", 3), ("random", 24)])
def test_training_goes_on_without_kept_clips(shared: Path, reader: str, free_blocks: int) -> None:
    name = f"{reader}-{free_blocks}"
    found = trained(shared, name, free_blocks, reader=reader)
    assert found.status == 0, found.said
    assert "Traceback" not in found.said
    warnings = [line for line in found.said.splitlines() if line.startswith("mixstyle: warning: ")]
    assert len(warnings) == 1, found.said
    assert str(shared / name / "disk" / "kept") in warnings[0]
    assert not found.left
    if reader == "random":  # the order of the other one differs
        ends = [load_checkpoint(shared / each / "ckpt" / "final_model.pt")["encoder"] for each in (name, "room")]
        assert all(torch.equal(ends[0][key], ends[1][key]) for key in ends[1])
    assert len(rows_of(shared / name)) == 2


@dataclass(frozen=True)
class Found:
    """What a training came to. left: files under temporary names, and folders of its own for temporary files."""

    status: int
    said: str
    left: list[str]


def trained(shared: Path, name: str, free_blocks: int, **changes: object) -> Found:
    """Trains with two loading processes, and so many free blocks of 4 kB on the disk of kept clips."""
    folder = shared / name
    disk, temporary = folder / "disk", folder / "tmp"
    disk.mkdir(parents=True)
    temporary.mkdir()
    where = {"stems_url": f"s3://{BUCKET}/stems", "stems_cache_dir": str(disk / "kept"), "workers": 2, "num_epochs": 1}
    config = profile(folder, **{"reader": "random", **where, **changes})
    code = f"import sys; sys.path[:0] = {[str(TESTS), str(Path(__file__).parent)]!r}\n"
    code += f"import test_full_clip_cache as t; t.on_full_disk({str(folder)!r}, {free_blocks}, {str(config)!r})"
    paths = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(temporary)}
    command = [*MOUNT, sys.executable, "-c", code]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **paths}, capture_output=True, text=True, timeout=900
    )
    left = [path.name for path in temporary.glob("mixstyle-*")]
    return Found(done.returncode, done.stderr, left + (folder / "partial.txt").read_text().split())


def on_full_disk(folder: str, free_blocks: int, config: str) -> None:
    """In a process of its own, with the disk's mount."""
    disk, blocks = Path(folder) / "disk", free_blocks + 64
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BLOCK_BYTES * blocks}", "tmpfs", str(disk)]
    subprocess.run(mount, check=True)
    (disk / "another file").write_bytes(bytes(64 * BLOCK_BYTES))
    status = run("train", "--config", config)
    names = [path.name for path in disk.rglob("*.partial")]
    (Path(folder) / "partial.txt").write_text("\n".join(names))
    sys.exit(status)
