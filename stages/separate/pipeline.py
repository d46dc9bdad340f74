"""Tracks on their way into shards of stems: made ready, separated, encoded and written at once, in order.

A `Preparation` makes tracks ready ahead (`separate` decodes music in processes, `remix` mixes cached stems in threads);
one thread, the feeder, feeds their audio to the chunk queue and hands stems on; threads encode; the caller that
iterates gets the records in the order of the tracks and writes them. Each place holds a few tracks, so memory is
bounded by the slowest of them, and the feeder's waits tell which that is.
"""

import queue
import threading
import time
from collections.abc import Hashable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from torch import Tensor

from mixstyle.cache.stem_store.shards import TrackRecord
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkQueue
from mixstyle.pipeline.separation.separator import Separator

Item = TypeVar("Item")
Item_contra = TypeVar("Item_contra", contravariant=True)
CHECK_S = 0.2
"""Seconds after which the feeder, waiting for room, looks whether it is still wanted."""


@dataclass
class Waits:
    """Seconds that the feeder waited for each place; `decoding` stands for whatever makes tracks ready."""

    decoding: float = 0.0
    network: float = 0.0
    encoding: float = 0.0

    def __add__(self, other: "Waits") -> "Waits":
        return Waits(self.decoding + other.decoding, self.network + other.network, self.encoding + other.encoding)

    @property
    def bottleneck(self) -> str:
        """The place that was waited for longest."""
        waits = {"the network": self.network, "decoding": self.decoding, "encoding and writing": self.encoding}
        return max(waits, key=waits.__getitem__)


class ReadyTrack(Protocol):
    """A track that is ready for the network.

    requests: its clips that are to be separated, none where there is nothing to do. separator: through which of the
    run's separators they go.
    """

    @property
    def requests(self) -> Sequence[ClipRequest]: ...

    @property
    def separator(self) -> int: ...

    def encoded(
        self, stems: Sequence[Tensor] | None, separator: str, batch_chunks: tuple[int, ...] = ()
    ) -> TrackRecord:
        """The track as the shard takes it. stems: [4, 2, T] of each request, None without a network. separator: its
        fingerprint. batch_chunks: how many chunks went together where memory did not suffice for a batch."""
        ...


class Preparation(Protocol[Item_contra]):
    """Makes tracks ready, working ahead."""

    def ready(self, tracks: Iterable[tuple[int, Item_contra]]) -> Iterator[tuple[int, ReadyTrack]]:
        """Tracks with the numbers of their shards, in order."""
        ...

    def close(self) -> None:
        """Ends its processes and threads; work under way is lost. May be called again."""
        ...


class TrackPipeline(Generic[Item]):
    """Iterates over (shard number, record) of the tracks of some shards, in order. A context manager: leaving it ends
    its processes and threads, and the preparation's, finished or not.

    tracks: (shard number, track), taken as there is room. executor: None where the stems exist already. separators:
    what it runs. workers: threads that encode.
    """

    def __init__(
        self,
        tracks: Iterable[tuple[int, Item]],
        preparation: Preparation[Item],
        executor: BatchExecutor | None,
        separators: Sequence[Separator],
        workers: int,
    ) -> None:
        self.waits = Waits()
        self._tracks, self._preparation = tracks, preparation
        self._executor, self._separators = executor, separators
        self._encoders = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="feeder")
        self._records: queue.Queue[tuple[int, Future[TrackRecord]] | None] = queue.Queue(workers + 2)
        self._stopped = threading.Event()

    def __enter__(self) -> "TrackPipeline[Item]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._preparation.close()
        self._encoders.shutdown(wait=False, cancel_futures=True)
        if kind is not None and self._executor is not None:
            self._executor.close()  # the feeder may be waiting for a batch that nobody wants any more
        self._feeder.shutdown(wait=True, cancel_futures=True)
        self._encoders.shutdown(wait=True)

    def __iter__(self) -> Iterator[tuple[int, TrackRecord]]:
        """Raises whatever stopped one of the places."""
        fed = self._feeder.submit(self._feed)
        while (item := self._records.get()) is not None:
            number, record = item
            yield number, record.result()
        fed.result()

    def _feed(self) -> None:
        """What the feeder's thread does."""
        try:
            if self._executor is None:
                for number, ready in self._ready():
                    self._encode(number, ready)
            else:
                self._separate(ChunkQueue(self._executor))
        except (_StoppedError, CancelledError):
            if not self._stopped.is_set():
                raise
        finally:
            if not self._stopped.is_set():
                self._put(None)

    def _separate(self, chunks: ChunkQueue) -> None:
        waiting: dict[Hashable, tuple[int, ReadyTrack]] = {}

        def groups() -> Iterator[tuple[Hashable, Sequence[ClipRequest]]]:
            for place, (number, ready) in enumerate(self._ready()):
                waiting[place] = number, ready
                yield place, ready.requests

        # a batch holds chunks of one shard: what comes out depends on that shard alone
        for group in chunks.separated(
            groups(),
            separator_of=lambda place: self._separators[waiting[place][1].separator],
            apart=lambda place: waiting[place][0],
        ):
            self.waits.network = chunks.waited_s
            number, ready = waiting.pop(group.key)
            reduced = any(size < chunks.executor.batch_chunks for size in group.batch_chunks)
            self._encode(number, ready, group.stems, group.batch_chunks if reduced else ())
        self.waits.network = chunks.waited_s

    def _ready(self) -> Iterator[tuple[int, ReadyTrack]]:
        tracks = self._preparation.ready(self._tracks)
        while True:
            start = time.perf_counter()
            item = next(tracks, None)
            self.waits.decoding += time.perf_counter() - start
            if item is None:
                return
            yield item

    def _encode(
        self,
        number: int,
        ready: ReadyTrack,
        stems: list[Tensor] | None = None,
        batch_chunks: tuple[int, ...] = (),
    ) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        start = time.perf_counter()
        separator = self._separators[ready.separator].fingerprint if self._separators else "stems"
        self._put((number, self._encoders.submit(ready.encoded, stems, separator, batch_chunks)))
        self.waits.encoding += time.perf_counter() - start

    def _put(self, item: tuple[int, Future[TrackRecord]] | None) -> None:
        while True:
            if self._stopped.is_set():
                raise _StoppedError
            try:
                self._records.put(item, timeout=CHECK_S)
            except queue.Full:
                continue
            return


class _StoppedError(Exception):
    """Nobody takes the records any more."""
