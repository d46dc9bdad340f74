"""How chunks go through the separator: streams, threads and batch, as the settings say or as a measurement finds.

Threads of a stream and chunks of a batch move the last bits of the stems, so a folder keeps those it was begun with:
they are in its `settings.json`, and every later run and every other machine takes them from there.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mixstyle.cache.storage.tuning_cache import load_tuning, machine, store_tuning, tunings_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, separate_all
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.pipeline.separation.tuning import Tuning, streams_on, tune
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.common.machine_memory import meminfo
from mixstyle.stages.common.progress import remark
from mixstyle.stages.separate.lstm_kernels import set_lstm_kernel
from mixstyle.stages.separate.provenance import Streams, known_streams, settings_of_folder, threads_of
from mixstyle.stages.settings.separate import SeparateSettings


def device_of(chosen: SeparateSettings) -> torch.device:
    """The device that the settings name; of several the first, after a look at all.

    Raises MixstyleError for devices that are not there, or not of one kind: their last bits differ.
    """
    devices = [resolve_device(name, "--devices") for name in chosen.devices] or [resolve_device(chosen.device)]
    check_one_kind(devices)
    return devices[0]


def check_one_kind(devices: Sequence[torch.device]) -> None:
    """Raises MixstyleError (bad-setting) for devices of several kinds, such as a processor and a GPU."""
    if len({device.type for device in devices}) > 1:
        told = ",".join(map(str, devices))
        raise MixstyleError(f"separate.devices={told}: should all be of one kind", code="bad-setting")


def choose_streams(
    chosen: SeparateSettings, separator: Separator | None, device: torch.device, measure: bool = True
) -> Streams:
    """Streams as the settings name them; for those left open what the folder was begun with, else a measurement.

    Sets the separator's LSTM kernel: that which the folder was begun with, else the fastest.
    measure: False runs nothing; where no earlier run has measured either, it is one chunk and one thread.
    """
    if separator is None:
        return Streams(1, 1, 1)
    threads = threads_of(chosen)
    stored = settings_of_folder(chosen, separator.fingerprint, device.type)
    kernel = set_lstm_kernel(separator, stored.get("lstm_kernel", "") if stored else None)
    per_stream, batch = known_streams(chosen, stored, device.type)
    if not per_stream or not batch:
        tuning = _tuned(separator, threads, per_stream, batch, measure)
        if tuning is not None:
            per_stream, batch = tuning.threads_per_stream, tuning.batch_chunks
    per_stream, batch = per_stream or 1, batch or 1
    return Streams(chosen.streams or streams_on(device, threads, per_stream), per_stream, batch, kernel)


def start_streams(
    separator: Separator, streams: Streams, on_reduced: Callable[[int], None] | None = None
) -> BatchExecutor:
    """The executor that runs `streams` through a separator's network; to be closed, as a context manager does.

    on_reduced: told the new number of chunks when a device that is out of memory halves the batch.
    """
    return BatchExecutor(separator, streams.streams, streams.threads_per_stream, streams.batch_chunks, on_reduced)


def tuned_separation(
    chosen: SeparateSettings, separator: Separator, measure: bool = True
) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """What separates whole mixtures [2, T_i] at 44.1 kHz into stems [4, 2, T_i], as `choose_streams` finds it best at
    the first call."""

    @cache
    def streams() -> Streams:
        return choose_streams(chosen, separator, separator.device, measure)

    def separate(mixtures: Sequence[Tensor]) -> list[Tensor]:
        with start_streams(separator, streams()) as executor:
            return separate_all(executor, [ClipRequest.whole(mixture) for mixture in mixtures])

    return separate


def _tuned(
    separator: Separator, threads: int, threads_per_stream: int, batch_chunks: int, measure: bool
) -> Tuning | None:
    """What an earlier tuning found for this case, else what one finds now; None where nothing is to be run."""
    on_cpu = separator.device.type == "cpu"
    case: Mapping[str, Any] = {
        **machine(separator.device),
        "separator": separator.fingerprint,
        "inference_version": INFERENCE_VERSION,
        "precision": separator.precision,
        "threads": threads if on_cpu else None,
        "threads_per_stream": threads_per_stream,
        "batch_chunks": batch_chunks,
    }
    if separator.lstm_kernel:
        case = {**case, "lstm_kernel": separator.lstm_kernel}
    tuning = load_tuning(case)
    how = f"from {tunings_folder()}"
    if not measure:
        return tuning
    if tuning is None:
        remark(
            "separation: measuring how many chunks and threads to use together (once for this machine and separator)"
        )
        tuning = tune(separator, threads, threads_per_stream, batch_chunks, available_memory())
        how = "measured" if store_tuning(case, tuning) else f"measured; {tunings_folder()} cannot be written"
    tried = ", ".join(f"{name}: {seconds:.2f} s a chunk" for name, seconds in tuning.chunk_s.items())
    per_stream = f", {counted(tuning.threads_per_stream, 'thread')} a stream" if on_cpu else ""
    told = f"separation: batches of {tuning.batch_chunks}{per_stream}"
    remark(f"{told} ({tried}; {how})", once=f"{told}, {case}")
    return tuning


def available_memory(told_by: Path = Path("/proc/meminfo")) -> float:
    """Bytes of the machine's memory that could be had now; half of all of it where only that is told (macOS)."""
    if (available := meminfo(told_by).get("MemAvailable")) is not None:
        return float(available)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError, AttributeError):
        return float("inf")
