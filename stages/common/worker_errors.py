"""Errors in a DataLoader's workers, raised in the main process as they are.

torch makes an exception of a worker again from a text with its traceback in it, and so loses its code and its one line.
Here a worker hands the error over as if it were an item, and `raised` raises it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch.utils.data import Dataset, default_collate

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.shared_memory import received

T = TypeVar("T")


class ErrorsAsItems(Dataset[Any]):
    """A dataset whose MixstyleErrors come as items."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.data[key]
        except MixstyleError as error:
            return error


def collate_or_error(items: Sequence[Any]) -> Any:
    """A batch as torch makes it, or the first error among its items."""
    return next((item for item in items if isinstance(item, MixstyleError)), None) or default_collate(list(items))


def raised(loaded: Iterable[T], setting: str) -> Iterator[T]:
    """What was loaded, in order. setting: the one that says how many workers there are. Raises the first
    MixstyleError in it, and one (worker-died) where a worker ended."""
    with worker_deaths(setting):
        for item in map(received, loaded):
            if isinstance(item, MixstyleError):
                raise item
            yield item


@contextmanager
def worker_deaths(setting: str) -> Iterator[None]:
    """Raises MixstyleError (worker-died) where a loader's process ended in the block, or in a function decorated so.

    torch raises an error of its own from a signal handler: wherever the main process is just then, be it at a
    checkpoint's writing, and not only where it waits for a batch. setting: the one that says how many processes there
    are.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise MixstyleError(
            "the system ended a process that loads clips; often there is not enough memory. Run the same command to "
            f"continue; for fewer such processes, add --set {setting}=1",
            code="worker-died",
        ) from error
