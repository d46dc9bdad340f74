"""Runs chunks of many clips through a separator, or several in turn: full batches, several streams, bounded memory.

A *stream* is a thread that takes batches through the network. On CPUs, several streams of one thread each do more than
one stream of several threads: an LSTM has thousands of steps, and threads that share one wait for each other at every
step (for very long when anything else wants a core). On a GPU two of them, each with a CUDA stream of its own,
copy and compute at the same time.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import torch
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.chunks import ClipRequest, OverlapAdd

_NO_MEMORY = (
    "can't allocate memory",
    "CUDA error: out of memory",
    "unable to find an engine",  # cuDNN, where none of its algorithms gets the memory that it works in
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
)
"""In errors of torch that are no OutOfMemoryError."""


class ChunkSeparator(Protocol):
    """What an executor needs of a separator; `Separator` is one."""

    device: torch.device

    def run_network(self, chunks: Tensor) -> Tensor: ...

    def prepare(self, request: ClipRequest) -> tuple[Tensor, float, float]: ...

    def overlap_add(self, request: ClipRequest) -> OverlapAdd: ...


class BatchExecutor:
    """Streams through a separator's network. A context manager: leaving it ends the streams.

    separator: what batches go through that name no other one of the same device. streams: batches at once. threads:
    CPU threads of each stream. batch_chunks: the most chunks in a batch; a device that is out of memory halves it, and
    `on_reduced` is called with the new number.
    """

    def __init__(
        self,
        separator: ChunkSeparator,
        streams: int = 1,
        threads: int = 1,
        batch_chunks: int = 1,
        on_reduced: Callable[[int], None] | None = None,
    ) -> None:
        self.separator, self.streams, self.threads, self.batch_chunks = separator, streams, threads, batch_chunks
        self.stream_s = 0.0
        """Seconds spent in the network, summed over the streams."""
        self.active_s = 0.0
        """Seconds in which at least one stream was in the network."""
        self._limit, self._on_reduced = batch_chunks, on_reduced
        self._lock = threading.Lock()
        self._active, self._since = 0, 0.0
        self._threads_before = torch.get_num_threads()
        self._on_cpu = separator.device.type == "cpu"  # beside a GPU, cutting and adding chunks may use all cores
        if self._on_cpu:
            # of MKL they are one number for all threads: never another while streams run
            torch.set_num_threads(threads)
        self._pool = ThreadPoolExecutor(streams, thread_name_prefix="stream", initializer=self._begin)

    def submit(
        self, chunks: Sequence[Tensor], separator: ChunkSeparator | None = None
    ) -> "Future[tuple[list[Tensor], int]]":
        """Chunks [2, chunk] each -> their stems [4, 2, chunk] each, and how many at most went through together."""
        return self._pool.submit(self._run, chunks, separator or self.separator)

    def close(self) -> None:
        """Ends the streams; what is under way is finished, what waits is dropped."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        if self._on_cpu:
            torch.set_num_threads(self._threads_before)

    def __enter__(self) -> "BatchExecutor":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> None:
        if self._on_cpu:
            torch.set_num_threads(self.threads)
        device = self.separator.device
        if device.type == "cuda":
            torch.cuda.set_device(device)
            stream = torch.cuda.Stream(device)
            stream.wait_stream(torch.cuda.default_stream(device))  # on which the weights were copied
            torch.cuda.set_stream(stream)

    def _run(self, chunks: Sequence[Tensor], separator: ChunkSeparator) -> tuple[list[Tensor], int]:
        with self._lock:
            if self._active == 0:
                self._since = time.perf_counter()
            self._active += 1
        start = time.perf_counter()
        try:
            return self._in_parts(chunks, separator)
        finally:
            now = time.perf_counter()
            with self._lock:
                self._active -= 1
                self.stream_s += now - start
                if self._active == 0:
                    self.active_s += now - self._since

    def _in_parts(self, chunks: Sequence[Tensor], separator: ChunkSeparator) -> tuple[list[Tensor], int]:
        stems: list[Tensor] = []
        smallest = self._limit
        while len(stems) < len(chunks):
            limit = self._limit
            part = chunks[len(stems) : len(stems) + limit]
            failed = False
            try:
                stems.extend(separator.run_network(torch.stack(list(part))))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                failed = True
            if failed:  # not above: while an error is handled, it holds the tensors of the pass that failed
                self._reduce(limit, len(part))
            smallest = min(smallest, limit)
        return stems, smallest

    def _reduce(self, limit: int, size: int) -> None:
        """Half of what failed is allowed from now on. Raises MixstyleError where it was a single chunk."""
        if size == 1 and limit == 1:
            raise MixstyleError(
                f"{self.separator.device}: out of memory with a single chunk; use fewer separate.streams, "
                "separate.precision=bf16, or a device with more memory",
                code="no-memory",
            )
        with self._lock:
            if self._limit < limit:  # another stream has reduced it meanwhile
                return
            self._limit = (min(limit, size) + 1) // 2
            left = self._limit
        if self.separator.device.type == "cuda":
            torch.cuda.empty_cache()
        if self._on_reduced is not None:
            self._on_reduced(left)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device's or the CPU's memory was used up. The CPU's, and that which CUDA's libraries take for
    themselves, torch tells by the text alone."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _NO_MEMORY)


_Place = tuple[int, int]
"""A chunk of a group: the number of its track in the group, and its number in the track's grid."""


@dataclass
class _Clip:
    request: ClipRequest
    audio: Tensor
    mean: float
    std: float
    overlap_add: OverlapAdd

    @property
    def chunks(self) -> range:
        return self.overlap_add.grid.touching(self.request.start, self.request.stop)


@dataclass
class _Group:
    """What one `put` brought, under way. sizes: how many chunks at most went together, for each of its batches."""

    key: Hashable
    separator: ChunkSeparator
    clips: list[_Clip]
    waiting: int
    chunks: int
    sizes: set[int] = field(default_factory=set)


@dataclass(frozen=True)
class SeparatedGroup:
    """The result of one `put`: stems [4, 2, stop - start] of each clip, in order.

    batch_chunks: how many chunks were allowed to go through together, in increasing order: one number, unless the
    device ran out of memory.
    """

    key: Hashable
    stems: list[Tensor]
    batch_chunks: tuple[int, ...]


class ChunkQueue:
    """One queue of chunks of all clips and tracks, so that batches are full: `put` groups in, take `finished` out.

    Chunks go in the order of `put`, each once even where several clips of a group touch it. Membership of a batch
    depends on that order alone; `flush` ends a batch early. Memory is bounded by `ahead` batches more than there are
    streams: `put` waits for the oldest. told: called with a group's key and the share of its chunks that are through.
    """

    def __init__(
        self, executor: BatchExecutor, ahead: int = 1, told: Callable[[Hashable, float], None] | None = None
    ) -> None:
        self.executor, self.most_in_flight, self._told = executor, executor.streams + ahead, told
        self.waited_s = 0.0
        """Seconds that `put` and `flush` waited for the network."""
        self._batch: list[tuple[_Group, _Place, Tensor]] = []
        self._in_flight: deque[tuple[list[tuple[_Group, _Place]], Future[tuple[list[Tensor], int]]]] = deque()
        self._groups: deque[_Group] = deque()

    def put(self, key: Hashable, requests: Sequence[ClipRequest], separator: ChunkSeparator | None = None) -> None:
        """Clips of a track, or of several by their numbers. Raises as `Separator.separate_clips` does.

        separator: instead of the executor's. A batch goes through one separator.
        """
        separator = separator or self.executor.separator
        if self._batch and self._batch[0][0].separator is not separator:
            self.flush()
        prepared = {id(request.audio): separator.prepare(request) for request in requests}
        clips: list[_Clip] = []
        readers: dict[tuple[int, int], _Clip] = {}  # a clip whose audio holds the chunk
        for request in requests:
            clip = _Clip(request, *prepared[id(request.audio)], separator.overlap_add(request))
            clips.append(clip)
            for index in clip.chunks:
                readers.setdefault((request.track, index), clip)
        group = _Group(key, separator, clips, len(readers), len(readers))
        self._groups.append(group)
        for place, clip in sorted(readers.items(), key=lambda item: item[0]):
            grid = clip.overlap_add.grid
            self._batch.append((group, place, grid.cut(place[1], clip.audio, clip.request.span_start)))
            if len(self._batch) == self.executor.batch_chunks:
                self.flush()

    def flush(self) -> None:
        """Sends what is gathered, full or not."""
        if not self._batch:
            return
        places = [(group, place) for group, place, _ in self._batch]
        separator = self._batch[0][0].separator
        self._in_flight.append((places, self.executor.submit([chunk for _, _, chunk in self._batch], separator)))
        self._batch = []
        while len(self._in_flight) > self.most_in_flight:
            self._take()

    def finished(self, wait: bool = False) -> Iterator[SeparatedGroup]:
        """Groups that are through, in the order of `put`. wait: for all that has been put, after a flush."""
        if wait:
            self.flush()
        while self._in_flight and (wait or self._in_flight[0][1].done()):
            self._take()
            yield from self._through()
        yield from self._through()

    def separated(
        self,
        groups: Iterable[tuple[Hashable, Sequence[ClipRequest]]],
        *,
        separator_of: Callable[[Hashable], ChunkSeparator] | None = None,
        apart: Callable[[Hashable], object] | None = None,
        drained: Callable[[], None] | None = None,
    ) -> Iterator[SeparatedGroup]:
        """All groups through the network, in their order; each is taken when there is room for it.

        A group without clips comes back without stems, in its place. separator_of: the separator of a group, where
        that is not the executor's. apart: groups for which it gives different values
        never share a batch. drained: called once the network has nothing left to do, before the last groups come.
        """
        last: object = None
        for place, (key, requests) in enumerate(groups):
            kind = apart(key) if apart is not None else None
            if place and kind != last:
                self.flush()
            last = kind
            self.put(key, requests, separator_of(key) if separator_of is not None else None)
            yield from self.finished()
        rest = list(self.finished(wait=True))
        if drained is not None:
            drained()
        yield from rest

    def _through(self) -> Iterator[SeparatedGroup]:
        while self._groups and self._groups[0].waiting == 0:
            group = self._groups.popleft()
            stems = [clip.overlap_add.result() * clip.std + clip.mean for clip in group.clips]
            yield SeparatedGroup(group.key, stems, tuple(sorted(group.sizes)))

    def _take(self) -> None:
        """Waits for the oldest batch and adds its chunks to their clips."""
        places, future = self._in_flight.popleft()
        start = time.perf_counter()
        stems, size = future.result()
        self.waited_s += time.perf_counter() - start
        for (group, (track, index)), chunk_stems in zip(places, stems, strict=True):
            for clip in group.clips:
                if clip.request.track == track and index in clip.chunks:
                    clip.overlap_add.add(index, chunk_stems)
            group.waiting -= 1
            group.sizes.add(size)
        if self._told is not None and places:
            last = places[-1][0]
            self._told(last.key, 1 - last.waiting / last.chunks)


def separate_all(executor: BatchExecutor, requests: Sequence[ClipRequest]) -> list[Tensor]:
    """The stems [4, 2, stop - start] of clips, in their order; chunks of several share batches."""
    groups = ChunkQueue(executor).separated((place, [request]) for place, request in enumerate(requests))
    return [stems for group in groups for stems in group.stems]
