"""The chunk queue: whatever the streams and batches, each clip gets what the network alone gives, in bounded memory."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from helpers.small_separator import CHUNK, song, write_separator
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkQueue, is_out_of_memory
from mixstyle.pipeline.separation.separator import Separator, load_separator


@pytest.fixture(scope="module")
def separator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Separator]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_separator(*write_separator(tmp_path_factory.mktemp("executor")))
    torch.set_num_threads(before)


def clips(separator: Separator, lengths: Sequence[int]) -> list[list[ClipRequest]]:
    """Two clips each of tracks of some lengths, as the stage asks for them."""
    requests = []
    for seed, frames in enumerate(lengths):
        track = torch.from_numpy(song(seed, frames / 44_100).T.copy())
        frames = track.shape[1]
        half = frames // 2
        spans = [separator.clip_span(frames, *bounds) for bounds in ((0, half), (half, frames))]
        requests.append(
            [
                ClipRequest(frames, start, stop, first, track[:, first:last])
                for (start, stop), (first, last) in zip(((0, half), (half, frames)), spans, strict=True)
            ]
        )
    return requests


def through(
    executor: BatchExecutor, groups: Sequence[Sequence[ClipRequest]], flush_after: Sequence[int] = ()
) -> list[Tensor]:
    queue = ChunkQueue(executor)
    stems = []
    for key, requests in enumerate(groups):
        queue.put(key, requests)
        if key in flush_after:
            queue.flush()
        stems += [clip for group in queue.finished() for clip in group.stems]
    return stems + [clip for group in queue.finished(wait=True) for clip in group.stems]


class Watched:
    """A separator that notes its batches, how many were at once, and finds no memory for more than `room` chunks."""

    def __init__(self, separator: Separator, room: int = 1_000) -> None:
        self.device, self.prepare, self.overlap_add = separator.device, separator.prepare, separator.overlap_add
        self._separator, self._room, self._lock = separator, room, threading.Lock()
        self.sizes: list[int] = []
        self.most_at_once = self._now = 0

    def run_network(self, chunks: Tensor) -> Tensor:
        with self._lock:
            self._now += 1
            self.most_at_once = max(self.most_at_once, self._now)
            if len(chunks) <= self._room:
                self.sizes.append(len(chunks))
        try:
            if len(chunks) > self._room:
                raise torch.OutOfMemoryError("no room")
            return self._separator.run_network(chunks)
        finally:
            with self._lock:
                self._now -= 1


LENGTHS = (2 * CHUNK, CHUNK // 2, 3 * CHUNK + 17, CHUNK)


def test_streams_change_no_bit_and_batches_little(separator: Separator) -> None:
    groups = clips(separator, LENGTHS)
    with BatchExecutor(separator) as executor:
        expected = through(executor, groups)
    for streams in (2, 3):
        with BatchExecutor(separator, streams=streams) as executor:
            for one, other in zip(expected, through(executor, groups), strict=True):
                assert torch.equal(one, other)
    with BatchExecutor(separator, streams=2, batch_chunks=3) as executor:
        for one, other in zip(expected, through(executor, groups), strict=True):
            torch.testing.assert_close(one, other, atol=1e-6, rtol=0)  # full scale is 1: float32 sums in another order
    # a queue that mixed clips up would differ by their level
    assert all(not torch.allclose(expected[0], stems) for stems in expected[1:] if stems.shape == expected[0].shape)


def test_batches_are_full_across_tracks_and_end_where_they_are_flushed(separator: Separator) -> None:
    groups = clips(separator, LENGTHS)
    chunks = [
        len({i for r in requests for i in separator.grid(r.track_frames).touching(r.start, r.stop)})
        for requests in groups
    ]
    watched = Watched(separator)
    with BatchExecutor(watched, batch_chunks=4) as executor:
        through(executor, groups)
    assert watched.sizes == [4] * (sum(chunks) // 4) + [sum(chunks) % 4] * (sum(chunks) % 4 > 0)
    watched = Watched(separator)
    with BatchExecutor(watched, batch_chunks=4) as executor:
        through(executor, groups, flush_after=[1])
    first = sum(chunks[:2])
    assert watched.sizes[: -(-first // 4)] == [4] * (first // 4) + [first % 4] * (first % 4 > 0)
    assert sum(watched.sizes) == sum(chunks)


@pytest.mark.parametrize("streams", [1, 3])
def test_streams_work_at_once_and_memory_is_bounded(separator: Separator, streams: int) -> None:
    watched = Watched(separator)
    with BatchExecutor(watched, streams=streams) as executor:
        told = list[tuple[object, float]]()
        queue = ChunkQueue(executor, told=lambda key, share: told.append((key, share)))
        for key, requests in enumerate(clips(separator, (6 * CHUNK,) * 2)):
            queue.put(key, requests)
            assert len(queue._in_flight) <= streams + 1
        assert len(list(queue.finished(wait=True))) == 2
        assert told == sorted(told), "in the order of the songs, each from its beginning to its end"
        assert [share for key, share in told if key == 0][-1] == told[-1][1] == 1.0
        assert 0 < executor.active_s <= executor.stream_s + 0.01  # seconds: a stream counts itself in and out
        assert executor.stream_s <= streams * executor.active_s + 0.01
    assert watched.most_at_once == streams


@pytest.mark.parametrize(("batch", "room", "left"), [(4, 2, [2]), (8, 1, [4, 2, 1])])
def test_out_of_memory_halves_the_batch_and_goes_on(
    separator: Separator, batch: int, room: int, left: list[int]
) -> None:
    groups = clips(separator, LENGTHS)
    with BatchExecutor(separator, batch_chunks=room) as executor:
        expected = through(executor, groups)
    halved: list[int] = []
    watched = Watched(separator, room)
    with BatchExecutor(watched, 1, 1, batch, halved.append) as executor:
        queue = ChunkQueue(executor)
        for key, requests in enumerate(groups):
            queue.put(key, requests)
        found = list(queue.finished(wait=True))
    assert halved == left
    assert max(watched.sizes) == room
    assert [group.batch_chunks for group in found] == [(room,)] * len(groups)
    for one, other in zip(expected, [stems for group in found for stems in group.stems], strict=True):
        # batches of the same size, of samples below 0.1: 0 with AVX-512 and AVX2; -120 dBFS for other orders of sums
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)


def test_a_single_chunk_without_room_is_told_in_a_line(separator: Separator) -> None:
    with (
        BatchExecutor(Watched(separator, room=0), batch_chunks=2) as executor,
        pytest.raises(MixstyleError) as caught,
    ):
        through(executor, clips(separator, LENGTHS))
    assert caught.value.code == "no-memory"


def test_other_errors_pass_through(separator: Separator) -> None:
    class Broken(Watched):
        def run_network(self, chunks: Tensor) -> Tensor:
            raise RuntimeError("a bug")

    with BatchExecutor(Broken(separator)) as executor, pytest.raises(RuntimeError, match="a bug"):
        through(executor, clips(separator, LENGTHS))


def test_the_cpus_own_error_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(RuntimeError("shapes differ"))
    assert not is_out_of_memory(RuntimeError("cuDNN error: CUDNN_STATUS_BAD_PARAM"))
    for told in (
        "GET was unable to find an engine to execute this computation",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuFFT error: CUFFT_ALLOC_FAILED",
    ):
        assert is_out_of_memory(RuntimeError(told)), told


def test_the_threads_are_as_before_afterwards(separator: Separator, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    with BatchExecutor(separator, streams=1, threads=2):
        pass
    assert torch.get_num_threads() == before
