"""Tracks on their way through `mixstyle separate`: decoded, separated, encoded and written at once, in order.

Worker processes decode ahead; one thread, the feeder, feeds their audio to the chunk queue and hands stems on; threads
encode; whoever iterates gets the records in the manifest's order and writes them. Each place holds a few tracks, so
memory is bounded by the slowest of them, and the feeder's waits tell which that is.
"""

import queue
import threading
import time
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

import torch

from mixstyle.cache.music.decode_pool import DecodePool, Decoder
from mixstyle.cache.stem_store.manifest import ListedTrack
from mixstyle.cache.stem_store.shards import TrackRecord
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkQueue
from mixstyle.stages.separate.clips import DecodedTrack, TrackRules, decode_track, encode_track, requests_of

CHECK_S = 0.2
"""Seconds after which the feeder, waiting for room, looks whether it is still wanted."""


@dataclass
class Waits:
    """Seconds that the feeder waited for each place."""

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


class TrackPipeline:
    """Iterates over (shard number, record) of the tracks of some shards, in order. A context manager: leaving it ends
    its processes and threads, finished or not.

    tracks: (shard number, track), taken as there is room. executor: None where the stems exist already.
    """

    def __init__(
        self,
        tracks: Iterable[tuple[int, ListedTrack]],
        rules: TrackRules,
        executor: BatchExecutor | None,
        separator: str,
        workers: int,
    ) -> None:
        self.waits = Waits()
        self._tracks, self._rules, self._executor, self._separator = tracks, rules, executor, separator
        self._pool = DecodePool(workers)
        self._encoders = ThreadPoolExecutor(workers, thread_name_prefix="encode")
        self._feeder = ThreadPoolExecutor(1, thread_name_prefix="feeder")
        self._records: queue.Queue[tuple[int, Future[TrackRecord]] | None] = queue.Queue(workers + 2)
        self._stopped = threading.Event()

    def __enter__(self) -> "TrackPipeline":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._pool.close()
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
                for number, decoded in self._decoded():
                    self._encode(number, decoded)
            else:
                self._separate(ChunkQueue(self._executor))
        except (_StoppedError, CancelledError):
            if not self._stopped.is_set():
                raise
        finally:
            if not self._stopped.is_set():
                self._put(None)

    def _separate(self, chunks: ChunkQueue) -> None:
        waiting: dict[Hashable, tuple[int, DecodedTrack]] = {}

        def groups() -> Iterator[tuple[Hashable, list[ClipRequest]]]:
            for place, (number, decoded) in enumerate(self._decoded()):
                waiting[place] = number, decoded
                yield place, requests_of(decoded)

        # a batch holds chunks of one shard: what comes out hangs on that shard alone
        for group in chunks.separated(groups(), apart=lambda place: waiting[place][0]):
            self.waits.network = chunks.waited_s
            number, decoded = waiting.pop(group.key)
            reduced = any(size < chunks.executor.batch_chunks for size in group.batch_chunks)
            self._encode(number, decoded, group.stems, group.batch_chunks if reduced else ())
        self.waits.network = chunks.waited_s

    def _decoded(self) -> Iterator[tuple[int, DecodedTrack]]:
        def decode(decoder: Decoder, item: tuple[int, ListedTrack]) -> tuple[int, DecodedTrack]:
            number, track = item
            return number, decode_track(decoder, track, self._rules)

        decoded = self._pool.map(decode, self._tracks)
        while True:
            start = time.perf_counter()
            item = next(decoded, None)
            self.waits.decoding += time.perf_counter() - start
            if item is None:
                return
            yield item

    def _encode(
        self,
        number: int,
        decoded: DecodedTrack,
        stems: list[torch.Tensor] | None = None,
        batch_chunks: tuple[int, ...] = (),
    ) -> None:
        if self._stopped.is_set():
            raise _StoppedError
        start = time.perf_counter()
        self._put((number, self._encoders.submit(encode_track, decoded, stems, self._separator, batch_chunks)))
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
