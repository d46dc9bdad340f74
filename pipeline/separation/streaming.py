"""Separates a song of any length as it streams by: what is held is some chunks, whatever the length.

The chunks, their order and their overlap-add are those of `Separator.separate`, so the stems are the same.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.separation.chunks import ChunkGrid
from mixstyle.pipeline.separation.executor import BatchExecutor
from mixstyle.pipeline.separation.separator import Separator


@dataclass(frozen=True)
class Level:
    """A song's mean and standard deviation over all samples of (l + r) / 2: what `inference.normalize` divides by."""

    mean: float = 0.0
    deviation: float = 1.0


def separate_blocks(
    separator: Separator, executor: BatchExecutor, mix: Iterable[Tensor], track_frames: int, level: Level | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The mix [2, n] and its stems [4, 2, n], block by block, over all of a track.

    mix: blocks [2, n] of any lengths, float32 at 44.1 kHz, together track_frames long. level: of the song; used by
    separators that normalise. Raises MixstyleError (not-finite) where the network's output is not, ValueError for a
    mix that is shorter than it should be.
    """
    grid = separator.grid(track_frames)
    used = level if level is not None and separator.needs_whole_track else Level()
    deviation = used.deviation if used.deviation > 0 else 1.0  # digital silence stays what it is
    indices = grid.touching(0, track_frames)
    window, added = _Window(mix), _RunningSum(grid, indices[-1])
    # what the chunk and all after it read begins here
    firsts = np.minimum.accumulate([grid.chunk_span(index)[0] for index in reversed(indices)])[::-1]
    in_flight: deque[tuple[list[int], Future[tuple[list[Tensor], int]]]] = deque()
    waiting: list[tuple[int, Tensor]] = []

    def take() -> Iterator[tuple[Tensor, Tensor]]:
        places, future = in_flight.popleft()
        for place, stems in zip(places, future.result()[0], strict=True):
            start, found = added.add(place, stems)
            if found.shape[-1]:
                stems_there = found * deviation + used.mean
                if not torch.isfinite(stems_there).all():
                    raise MixstyleError("separator failed: its output holds NaN or infinite samples", code="not-finite")
                yield window.part(start, start + found.shape[-1]), stems_there
        following = places[-1] + 1 - indices[0]
        window.drop(min(added.start, int(firsts[following]) if following < len(indices) else track_frames))

    for index in indices:
        first, last = grid.chunk_span(index)
        audio = (window.part(first, last) - used.mean) / deviation
        waiting.append((index, grid.cut(index, audio, first)))
        if len(waiting) == executor.batch_chunks or index == indices[-1]:
            places, chunks = zip(*waiting, strict=True)
            in_flight.append((list(places), executor.submit(chunks)))
            waiting = []
        while len(in_flight) > executor.streams + 1:
            yield from take()
    while in_flight:
        yield from take()


class _Window:
    """The part of a stream of blocks that is still needed."""

    def __init__(self, blocks: Iterable[Tensor]) -> None:
        self._blocks = iter(blocks)
        self._held = torch.empty(2, 0)
        self._start = 0

    def part(self, first: int, last: int) -> Tensor:
        """Frames first to last (half-open) of the track."""
        parts, end = [self._held], self._start + self._held.shape[1]
        while end < last:
            block = next(self._blocks, None)
            if block is None:
                raise ValueError(f"the mix ends at frame {end}, and {last} are needed")
            parts.append(block)
            end += block.shape[1]
        self._held = torch.cat(parts, 1) if len(parts) > 1 else self._held
        if first < self._start:
            raise ValueError(f"frame {first} was dropped already")
        return self._held[:, first - self._start : last - self._start]

    def drop(self, before: int) -> None:
        """Forgets the frames before one of the track."""
        ahead = min(before - self._start, self._held.shape[1])
        if ahead > 0:
            self._held = self._held[:, ahead:].clone()
            self._start += ahead


class _RunningSum:
    """`OverlapAdd` of a whole track that hands out what is complete. start: the first frame not handed out yet."""

    def __init__(self, grid: ChunkGrid, last: int) -> None:
        self.start = 0
        self._grid, self._last = grid, last
        self._sum = torch.zeros(len(STEMS), 2, 0)
        self._weight = torch.zeros(0)

    def add(self, index: int, chunk: Tensor) -> tuple[int, Tensor]:
        """Adds chunk `index` [4, 2, chunk], which come in order. The stems that no later chunk touches, and where they
        begin."""
        grid = self._grid
        offset = index * grid.step - grid.border
        end = min(offset + grid.chunk, grid.track_frames)
        begin = max(offset, 0)
        if end > begin:
            missing = max(0, end - self.start - self._weight.shape[0])
            self._sum = torch.nn.functional.pad(self._sum, (0, missing))
            self._weight = torch.nn.functional.pad(self._weight, (0, missing))
            window = grid.window(index)[begin - offset : end - offset]
            place = slice(begin - self.start, end - self.start)
            self._sum[..., place] += chunk[..., begin - offset : end - offset] * window
            self._weight[place] += window
        done = grid.track_frames if index == self._last else max(offset + grid.step, 0)
        ready = min(done, grid.track_frames) - self.start
        start, weight = self.start, self._weight[:ready]
        stems = torch.where(weight > 0, self._sum[..., :ready] / weight, 0.0)
        self._sum, self._weight = self._sum[..., ready:].clone(), self._weight[ready:].clone()
        self.start += ready
        return start, stems
