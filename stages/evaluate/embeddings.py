"""Embeddings of a part's clips by every row, kept on the disk as the part is done."""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.processes import leave_ctrl_c_to_parent, processes_here
from mixstyle.stages.common.progress import remark
from mixstyle.stages.common.shared_memory import collating
from mixstyle.stages.common.worker_errors import ErrorsAsItems, collate_or_error, raised
from mixstyle.stages.evaluate.clips import Clips, Row
from mixstyle.stages.evaluate.tasks.task import Embeddings, Items, Part
from mixstyle.stages.evaluate.tasks.variants import Way
from mixstyle.stages.settings.evaluate import EvaluateSettings

_UNREADABLE = (
    *(OSError, ValueError, EOFError, KeyError, AttributeError, TypeError, RuntimeError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""What numpy and the ZIP reader raise over damaged files."""


class Banks(Protocol):
    """Where clips come from that are to go through a mix."""

    def of(self, cache: StemCache, part: Part) -> tuple[StemCache, Items]:
        """The part's clips, rendered from the cache, summed and separated again, and the cache that they are in."""
        ...


class _Rendering(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Mixed stems and, where they are computed on the CPU, their descriptors."""

    def __init__(self, cache: StemCache, items: Items, describe_here: bool) -> None:
        self.cache, self.items, self.describe_here = cache, items, describe_here

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        stems = torch.from_numpy(np.ascontiguousarray(self.items[place].render(self.cache)))
        return stems, describe(stems[None])[0] if self.describe_here else torch.empty(0)


def embedded(
    options: EvaluateSettings,
    cache: StemCache,
    part: Part,
    rows: Sequence[Row],
    device: torch.device,
    advance: Callable[[int], None],
    banks: Banks,
) -> dict[str, Embeddings]:
    """Embeddings [clips, E] by row. Those that the folder holds are taken; the part is rendered for the others alone.

    advance: is told of clips that are done.
    """
    path, kept = _path(options, part), _kept(_path(options, part))
    missing = missing_rows(options, part, rows)
    if not missing:
        advance(len(part))
        return {row.name: kept[row.name] for row in rows}
    found: dict[str, list[NDArray[np.float32]]] = {row.name: [] for row in missing}
    cache, items = banks.of(cache, part) if part.way == "through-mix" else (cache, part.items)
    for clips in _batches(cache, items, part.way, device, options):
        with torch.inference_mode():
            for row in missing:
                found[row.name].append(row.of(clips).float().cpu().numpy())
        advance(len(clips.stems))
    kept |= {name: np.concatenate(values) for name, values in found.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **kept)
    return {row.name: kept[row.name] for row in rows}


def missing_rows(options: EvaluateSettings, part: Part, rows: Sequence[Row]) -> list[Row]:
    """The rows that have not embedded a part yet."""
    kept = _kept(_path(options, part))
    return [row for row in rows if row.name not in kept]


def _path(options: EvaluateSettings, part: Part) -> Path:
    return options.evaluate_dir / f"{part.name}.npz"


def _kept(path: Path) -> dict[str, Embeddings]:
    """What was embedded of a part before, by row; nothing where that is damaged, and it is then embedded again."""
    if not path.is_file():
        return {}
    try:
        return read_embeddings(path)
    except MixstyleError as error:
        remark(f"evaluate: {error.message}; it is made again")
        path.unlink()
        return {}


def read_embeddings(path: Path) -> dict[str, Embeddings]:
    """Embeddings [clips, E] by row. Raises MixstyleError ("damaged-file") for what is not what was written."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        if not all(isinstance(rows, np.ndarray) for rows in found.values()):
            raise ValueError("it holds something other than arrays")
        return found
    except _UNREADABLE as error:
        raise MixstyleError(
            f"{path}: damaged ({one_line(error)})", code="damaged-file", remedy=("evaluate",)
        ) from error


def _batches(
    cache: StemCache, items: Items, way: Way, device: torch.device, options: EvaluateSettings
) -> Iterator[Clips]:
    here, workers = device.type == "cpu", processes_here(options.workers)
    if workers and here:
        describe(torch.zeros(1, len(STEMS), 2, SAMPLE_RATE))  # what forked workers then have
    loader = DataLoader(
        ErrorsAsItems(_Rendering(cache, items, here)),
        batch_size=options.batch_clips,
        num_workers=workers,
        collate_fn=collating(collate_or_error),
        worker_init_fn=leave_ctrl_c_to_parent,
        multiprocessing_context="fork" if workers else None,
    )
    for stems, descriptors in raised(loader, "evaluate.workers"):
        yield Clips(stems, descriptors if here else None, way).to(device)
