"""What a DataLoader's worker refuses is raised as it was, whatever the number of workers."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.worker_errors import ErrorsAsItems, collate_or_error, raised, worker_deaths


class _Numbers(Dataset[Tensor]):
    """0 to 6, where 5 is damaged."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, place: int) -> Tensor:
        if place == 5:
            raise MixstyleError("five.tar: damaged; delete it, then", code="damaged-file", remedy=("separate",))
        return torch.tensor(place)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_comes_in_its_place_with_its_code(workers: int) -> None:
    context = "fork" if workers else None
    loader = DataLoader(
        ErrorsAsItems(_Numbers()), 2, num_workers=workers, collate_fn=collate_or_error, multiprocessing_context=context
    )
    loaded = raised(loader, "train.workers")
    assert [next(loaded).tolist(), next(loaded).tolist()] == [[0, 1], [2, 3]]
    with pytest.raises(MixstyleError) as caught:
        next(loaded)
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("separate",))
    assert str(caught.value) == "five.tar: damaged; delete it, then run: mixstyle separate"


def test_a_worker_that_ends_while_something_else_is_done_is_told(tmp_path: Path) -> None:
    """torch raises from a signal handler: a checkpoint's writing then ends in the middle."""
    loader = DataLoader(_Numbers(), 1, num_workers=1, multiprocessing_context="fork")
    loaded = raised(loader, "train.workers")
    before = set(multiprocessing.active_children())
    next(loaded)
    (worker,) = set(multiprocessing.active_children()) - before

    @worker_deaths("train.workers")
    def write(seconds: float) -> None:
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGKILL)
        stop = time.monotonic() + seconds
        with (tmp_path / "checkpoint").open("wb") as file:
            while time.monotonic() < stop:
                file.write(b"x")
                os.fsync(file.fileno())

    with pytest.raises(MixstyleError) as caught:
        write(60)
    assert (caught.value.code, "train.workers" in str(caught.value)) == ("worker-died", True)


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match=r"^of torch$"), worker_deaths("train.workers"):
        raise RuntimeError("of torch")
