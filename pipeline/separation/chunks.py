"""The chunk grid on which long audio is separated, and the overlap-add that puts the chunks together again.

The rules are those of Music-Source-Separation-Training at batch size 1, so that published figures hold. A track of L
samples is reflect-padded by `border` on both sides when longer than twice that; chunks start at every multiple of
`step` below the padded length; each is weighted by a flat window with linear fades, and the sum is divided by the
sum of the weights. A clip needs only the chunks that touch it, and equals the same seconds of the whole track.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mixstyle.pipeline.core.errors import MixstyleError


@dataclass(frozen=True)
class ChunkGrid:
    """The grid of one track.

    chunk: samples that go through the network at once. num_overlap: chunks that cover a sample. track_frames: L.
    """

    chunk: int
    num_overlap: int
    track_frames: int

    def __post_init__(self) -> None:
        if self.num_overlap < 1 or self.chunk < 10 * self.num_overlap:
            raise MixstyleError(
                f"separator's chunk_size={self.chunk} cannot be cut by num_overlap={self.num_overlap}",
                code="bad-setting",
            )
        if self.track_frames < 1:
            raise MixstyleError("a track to separate holds no samples", code="bad-audio")

    @property
    def step(self) -> int:
        """Samples from one chunk's start to the next."""
        return self.chunk // self.num_overlap

    @property
    def fade(self) -> int:
        """Samples of the linear fades."""
        return self.chunk // 10

    @property
    def border(self) -> int:
        """Samples of reflection before and after the track; 0 for a track too short to need any."""
        border = self.chunk - self.step
        return border if self.track_frames > 2 * border else 0

    @property
    def padded_frames(self) -> int:
        return self.track_frames + 2 * self.border

    @property
    def count(self) -> int:
        """Chunks of the whole track."""
        return -(-self.padded_frames // self.step)

    def touching(self, start: int, stop: int) -> range:
        """Chunks that reach into samples start to stop (half-open) of the track."""
        if not 0 <= start < stop <= self.track_frames:
            raise ValueError(f"clip {start} to {stop} is not within {self.track_frames} frames")
        first = max(0, -(-(start + self.border - self.chunk + 1) // self.step))
        last = min(self.count - 1, (stop + self.border - 1) // self.step)
        return range(first, last + 1)

    def span(self, start: int, stop: int) -> tuple[int, int]:
        """Samples of the track (half-open) that those chunks read."""
        chunks = self.touching(start, stop)
        first = self._source(chunks[0])
        last = self._source(chunks[-1])
        both = torch.cat([first, last])
        return int(both.min()), int(both.max()) + 1

    def chunk_span(self, index: int) -> tuple[int, int]:
        """Samples of the track (half-open) that one chunk reads."""
        begin = index * self.step - self.border
        if begin >= 0 and begin + self.chunk <= self.track_frames:  # nothing of it is reflected
            return begin, begin + self.chunk
        source = self._source(index)
        return int(source.min()), int(source.max()) + 1

    def _source(self, index: int) -> Tensor:
        """Which sample of the track each sample of a chunk is, before the chunk's own padding."""
        begin = index * self.step
        position = torch.arange(begin, min(begin + self.chunk, self.padded_frames)) - self.border
        position = position.abs()  # reflected at the start
        last = self.track_frames - 1
        return last - (last - position).abs()  # and at the end

    def cut(self, index: int, audio: Tensor, span_start: int) -> Tensor:
        """Chunk `index` [C, chunk] out of `audio` [C, n], whose first sample is the track's `span_start`."""
        part = audio[:, self._source(index) - span_start]
        missing = self.chunk - part.shape[1]
        if missing == 0:
            return part
        if part.shape[1] > self.chunk // 2:
            return F.pad(part[None], (0, missing), mode="reflect")[0]
        return F.pad(part, (0, missing))

    def window(self, index: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Weights [chunk]; chunk 0 has no fade-in, the last (unless it is chunk 0) no fade-out."""
        window = torch.ones(self.chunk, dtype=dtype)
        ramp = torch.linspace(0, 1, self.fade, dtype=dtype)
        if index > 0:
            window[: self.fade] = ramp
        if index == 0 or index < self.count - 1:
            window[-self.fade :] = ramp.flip(0)
        return window


class OverlapAdd:
    """Gathers separated chunks of one clip: weighted sum over the sum of weights, 0/0 gives 0."""

    def __init__(self, grid: ChunkGrid, start: int, stop: int, channels: tuple[int, ...]) -> None:
        self.grid, self.start, self.stop = grid, start, stop
        self.waiting = len(grid.touching(start, stop))
        self._sum = torch.zeros(*channels, stop - start)
        self._weight = torch.zeros(stop - start)

    def add(self, index: int, chunk: Tensor) -> None:
        """Adds chunk `index` [*channels, chunk]."""
        grid = self.grid
        offset = index * grid.step - grid.border - self.start  # where the chunk begins within the clip
        end = min(offset + grid.chunk, grid.padded_frames - grid.border - self.start, self.stop - self.start)
        begin = max(offset, 0)
        window = grid.window(index)[begin - offset : end - offset]
        self._sum[..., begin:end] += chunk[..., begin - offset : end - offset] * window
        self._weight[begin:end] += window
        self.waiting -= 1

    def result(self) -> Tensor:
        """The clip [*channels, stop - start], once nothing is waited for."""
        if self.waiting:
            raise RuntimeError(f"{self.waiting} chunks are still to be added")
        return torch.where(self._weight > 0, self._sum / self._weight, 0.0)


@dataclass(frozen=True, repr=False)
class ClipRequest:
    """A clip to separate on its track's chunk grid; frames are of the track at 44.1 kHz.

    track_frames: length of the whole track. start, stop: the clip, half-open. audio: [2, n], the track's frames from
    `span_start` on, at least as many as `Separator.clip_span` names. track: tells the clips of several tracks apart
    where they go together.
    """

    track_frames: int
    start: int
    stop: int
    span_start: int
    audio: Tensor
    track: int = 0

    def __repr__(self) -> str:
        return f"ClipRequest(frames {self.start} to {self.stop} of {self.track_frames}, track {self.track})"

    @classmethod
    def whole(cls, mixture: Tensor) -> "ClipRequest":
        """All of a mixture [2, T]."""
        return cls(mixture.shape[-1], 0, mixture.shape[-1], 0, mixture)

    @property
    def clip(self) -> Tensor:
        """The clip's own frames of `audio`."""
        return self.audio[..., self.start - self.span_start : self.stop - self.span_start]
