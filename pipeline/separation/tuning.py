"""Finds by measurement how many chunks and how many threads go together through a separator on this machine.

More chunks in a batch need not be faster: on a CPU the LSTMs of a larger batch leave the cache, on a GPU a small batch
leaves it idle. More threads in a stream share one network's memory, and wait for each other at every step of an LSTM.
"""

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkSeparator

TRIAL_S = 2.5
"""Seconds that a trial should take; chunks are shortened for it, at most to an eighth."""
LARGEST_BATCH = 32
CPU_GAIN, GPU_GAIN = 0.9, 0.95
"""What a larger choice must take of the smaller one's time to be preferred: less than that could be noise."""
SHARE_OF_MEMORY = 0.7
"""Of the memory that is free, how much the streams of a CPU may take."""


class TunableSeparator(ChunkSeparator, Protocol):
    """What tuning needs of a separator; `Separator` is one."""

    @property
    def chunk_frames(self) -> int: ...


@dataclass(frozen=True)
class Tuning:
    """What was found. chunk_s: seconds a chunk for each choice that was tried, by its description."""

    threads_per_stream: int
    batch_chunks: int
    chunk_s: dict[str, float]


def streams_on(device: torch.device, threads: int, threads_per_stream: int) -> int:
    """How many streams a device has: those that the threads make on a CPU, two (computing and copying) elsewhere."""
    return max(1, threads // threads_per_stream) if device.type == "cpu" else 2


def tune(
    separator: TunableSeparator,
    threads: int,
    threads_per_stream: int = 0,
    batch_chunks: int = 0,
    memory_bytes: float = float("inf"),
) -> Tuning:
    """Measures chunks of noise on `threads` threads of the CPU, or on the separator's GPU.

    threads_per_stream, batch_chunks: 0 where they are to be found. memory_bytes: what the CPU's streams may take of; a
    stream's need is estimated from the first trial.
    """
    trials = _Trials(separator, threads)
    on_cpu = separator.device.type == "cpu"
    batch = batch_chunks or 1
    if not on_cpu:
        threads_per_stream = 1
    if not threads_per_stream:
        before = _restarted_peak_bytes()
        best = trials.chunk_s(1, batch) or float("inf")
        stream_bytes = (_peak_bytes() - before) / streams_on(separator.device, threads, 1) / trials.part
        fits = threads * stream_bytes <= SHARE_OF_MEMORY * memory_bytes
        threads_per_stream, more = 1, 2
        while more <= threads:
            found = trials.chunk_s(more, batch) or float("inf")
            if fits and found > CPU_GAIN * best:
                break
            fits = threads // more * stream_bytes <= SHARE_OF_MEMORY * memory_bytes
            threads_per_stream, best, more = more, found, 2 * more
    if not batch_chunks:
        best, more = trials.chunk_s(threads_per_stream, 1) or float("inf"), 2
        while more <= LARGEST_BATCH:
            found = trials.chunk_s(threads_per_stream, more)
            if found is None or found > (CPU_GAIN if on_cpu else GPU_GAIN) * best:
                break
            batch, best, more = more, found, 2 * more
    return Tuning(threads_per_stream, batch, {name: value for name, value in trials.measured.items() if value})


class _Trials:
    """Trials of one separator, each made once."""

    def __init__(self, separator: TunableSeparator, threads: int) -> None:
        self.separator, self.threads = separator, threads
        self.measured: dict[str, float | None] = {}
        eighth = separator.chunk_frames // 8
        noise = 0.1 * torch.randn(2, separator.chunk_frames, generator=torch.Generator().manual_seed(0))
        with BatchExecutor(separator, 1, 1) as executor:
            executor.submit([noise[:, :eighth]]).result()  # libraries load what they need
            start = time.perf_counter()
            executor.submit([noise[:, :eighth]]).result()
            whole_s = 8 * (time.perf_counter() - start)
        self.part = min(1.0, max(1 / 8, TRIAL_S / whole_s))
        """Of a chunk, what a trial takes."""
        self._chunk = noise[:, : int(self.part * separator.chunk_frames)]

    def chunk_s(self, threads_per_stream: int, batch: int) -> float | None:
        """Seconds a whole chunk; None where memory does not suffice."""
        streams = streams_on(self.separator.device, self.threads, threads_per_stream)
        where = f" x {counted(threads_per_stream, 'thread')}" if self.separator.device.type == "cpu" else ""
        name = f"{counted(streams, 'stream')}{where}, batch {batch}"
        if name not in self.measured:
            self.measured[name] = self._measure(streams, threads_per_stream, batch)
        return self.measured[name]

    def _measure(self, streams: int, threads: int, batch: int) -> float | None:
        reduced: list[int] = []
        rounds = 1 if self.separator.device.type == "cpu" else 3
        with BatchExecutor(self.separator, streams, threads, batch, reduced.append) as executor:

            def run(times: int) -> float:
                start = time.perf_counter()
                for future in [executor.submit([self._chunk] * batch) for _ in range(times)]:
                    future.result()
                return time.perf_counter() - start

            run(streams)  # a first pass pages in its memory, and chooses its kernels
            taken_s = run(rounds * streams)
        return None if reduced else taken_s / (rounds * streams * batch) / self.part


def _restarted_peak_bytes() -> int:
    """`_peak_bytes`, counted again from here where the system can do so: an earlier peak would hide a stream's need."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM to what is resident now
    return _peak_bytes()


def _peak_bytes() -> int:
    """The most memory that this process has had."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
