"""What workers make arrives, whatever room shared memory has: torch alone waits for ever where it has too little."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers.paths import TESTS
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.processes import processes_here
from mixstyle.stages.common.shared_memory import as_made, collating
from mixstyle.stages.common.worker_errors import ErrorsAsItems, raised
from mixstyle.stages.settings.profile import load_settings

MB = 1 << 18
"""Numbers of four bytes."""


@dataclass(frozen=True)
class Made:
    name: str
    parts: Sequence[Tensor]


class Large(Dataset[Made]):
    """Items of 20 MB; the last one ends its process where that is asked for."""

    def __init__(self, items: int = 8, dies: bool = False) -> None:
        self.items, self.dies = items, dies

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, place: int) -> Made:
        if self.dies and place == self.items - 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return Made(f"item {place}", (torch.full((10 * MB,), float(place)), torch.full((10 * MB,), -float(place))))


def load(data: Large, workers: int = 2) -> list[tuple[str, list[float]]]:
    workers = processes_here(workers)
    loader = DataLoader(
        ErrorsAsItems(data),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=collating(as_made),
        multiprocessing_context="fork" if workers else None,
    )
    return [(made.name, [float(part.mean()) for part in made.parts]) for made in raised(loader, "train.workers")]


def expected(items: int) -> list[tuple[str, list[float]]]:
    return [(f"item {place}", [float(place), -float(place)]) for place in range(items)]


@pytest.mark.parametrize("workers", [0, 2])
def test_items_arrive_in_order(workers: int) -> None:
    assert load(Large(), workers) == expected(8)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "then"),
    [
        ("size=64m", "true"),  # of a container: the loader's eight waiting items do not fit into it
        ("size=8k", "head -c 8192 /dev/zero > /dev/shm/full"),
        ("ro", "true"),
    ],
)
def test_items_arrive_whatever_room_shared_memory_has(options: str, then: str) -> None:
    """In a mount namespace of its own."""
    mount = f"mount -t tmpfs -o {options} tmpfs /dev/shm && {then}"
    own = ["unshare", "--mount", "--map-root-user", "sh", "-c"]
    if shutil.which("unshare") is None or subprocess.run([*own, mount], capture_output=True).returncode:
        pytest.skip("this system makes no mount namespaces")
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r}); sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    code += "import test_shared_memory as t; assert t.load(t.Large(24)) == t.expected(24)"
    done = subprocess.run(
        [*own, f'{mount} && exec "$0" -c "$1"', sys.executable, code], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_processes_that_cannot_share_locks_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (processes_here(0), processes_here(2)) == (0, 2)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", full)
    assert processes_here(2) == 0
    assert load(Large(2)) == expected(2)


def test_a_worker_that_was_killed_is_told_in_words() -> None:
    with pytest.raises(MixstyleError) as caught:
        load(Large(4, dies=True))
    assert caught.value.code == "worker-died"
    given = caught.value.message.partition("--set ")[2]
    assert load_settings("demo", [given]).train.workers == 1
