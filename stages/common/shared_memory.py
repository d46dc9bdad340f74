"""How a DataLoader's workers hand over what they made: in shared memory where that has room, else through their pipes.

Tensors go through shared memory, of which containers have little (64 MB by Docker's default). torch allocates it in a
thread whose errors lose the item, and the main process waits for it for ever. Here a worker looks before it hands an
item over, allocates at once, and sends bytes where there is no room. Where there is not even room for locks, no worker
is started.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import get_worker_info

from mixstyle.stages.common.notes import note
from mixstyle.stages.common.processes import SHARED_MEMORY


@dataclass(frozen=True)
class Packed:
    """An item as bytes."""

    content: bytes


def sent(item: Any) -> Any:
    """An item as a worker hands it over; outside a worker as it is."""
    info = get_worker_info()
    if info is None:
        return item
    found = list(_tensors(item))
    # any worker may be between its look and its allocation: there has to be room for all of them
    needed = (info.num_workers + 1) * sum(tensor.nbytes for tensor in found)
    if needed <= room_bytes():
        try:
            for tensor in found:
                tensor.share_memory_()
        except RuntimeError:  # somebody else took the room, or no file can be opened
            pass
        else:
            return item
    return Packed(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))


def received(item: Any) -> Any:
    """What a worker made, from what it handed over."""
    if not isinstance(item, Packed):
        return item
    note(
        f"note: {SHARED_MEMORY} has {room_bytes() / 1e6:.0f} MB free, too little for the loading processes: "
        "their data is copied, which takes longer; give a container more by --shm-size or --ipc=host"
    )
    return pickle.loads(item.content)  # of our own worker


def collating(collate: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A DataLoader's `collate_fn` that hands over what `collate` makes."""
    return _Sending(collate)


def as_made(item: Any) -> Any:
    """A `collate_fn` of a DataLoader without batches: the item itself."""
    return item


def room_bytes() -> float:
    """Free bytes of shared memory; infinity where no file system tells."""
    try:
        found = os.statvfs(SHARED_MEMORY)
    except OSError:
        return float("inf")
    return found.f_bavail * found.f_frsize


@dataclass(frozen=True)
class _Sending:
    collate: Callable[[Any], Any]

    def __call__(self, items: Any) -> Any:
        return sent(self.collate(items))


def _tensors(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif is_dataclass(item):
        for field in fields(item):
            yield from _tensors(getattr(item, field.name))
    elif isinstance(item, Mapping):
        for value in item.values():
            yield from _tensors(value)
    elif isinstance(item, Sequence) and not isinstance(item, str | bytes):
        for value in item:
            yield from _tensors(value)
