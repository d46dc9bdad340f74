"""How chunks go through the separator: streams, threads and batch, as the settings say or as a measurement finds.

Threads of a stream and chunks of a batch move the last bits of the stems, so a folder keeps those it was begun with:
they stand in its `settings.json`, and every later run and every other machine takes them from there.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixstyle.cache.music.listing import Listing
from mixstyle.cache.stem_store.shards import VERSION as SHARD_VERSION
from mixstyle.cache.stem_store.stem_cache import RENAMED, SETTINGS
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.provenance import Provenance, read_provenance
from mixstyle.cache.storage.tuning_cache import load_tuning, machine, store_tuning, tunings_folder
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import INFERENCE_VERSION, Separator
from mixstyle.pipeline.separation.tuning import Tuning, streams_on, tune
from mixstyle.stages.common.progress import say
from mixstyle.stages.separate.lstm_kernels import set_lstm_kernel
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.separate import SeparateSettings


@dataclass(frozen=True)
class Streams:
    """How many batches are in the network at once, the CPU threads of each, and how many chunks a batch has.

    lstm_kernel: the kernel of the network's LSTMs that the folder was begun with, where that is not torch's own.
    """

    streams: int
    threads_per_stream: int
    batch_chunks: int
    lstm_kernel: str = ""

    @property
    def kernel_setting(self) -> dict[str, str]:
        """The kernel for a provenance: nothing where it is torch's own, as in folders of before there was another."""
        return {"lstm_kernel": self.lstm_kernel} if self.lstm_kernel else {}


def device_of(chosen: SeparateSettings) -> torch.device:
    """The device that the settings name; of several the first, after a look at all.

    Raises MixstyleError for devices that are not there, or not of one kind: their last bits differ.
    """
    devices = [resolve_device(name) for name in chosen.devices] or [resolve_device(chosen.device)]
    if len({device.type for device in devices}) > 1:
        raise MixstyleError(
            f"separate.devices={','.join(chosen.devices)}: should all be of one kind", code="bad-setting"
        )
    return devices[0]


def threads_of(chosen: SeparateSettings) -> int:
    """Threads of the network on a CPU: those that the settings name, else every core this process may use."""
    return chosen.threads or usable_cores()


def choose_streams(
    chosen: SeparateSettings, separator: Separator | None, device: torch.device, measure: bool = True
) -> Streams:
    """Streams as the settings name them; for those left open what the folder was begun with, else a measurement.

    Sets the separator's LSTM kernel: that which the folder was begun with, else the fastest.
    measure: False runs nothing; where no earlier run has measured either, it is one chunk and one thread.
    """
    threads = threads_of(chosen)
    on_cpu = device.type == "cpu"
    per_stream = max(1, threads // chosen.streams) if chosen.streams else 0
    batch = chosen.batch_chunks
    if separator is None:
        return Streams(1, 1, 1)
    stored = _settings_of_folder(chosen, separator, device)
    kernel = set_lstm_kernel(separator, stored.get("lstm_kernel", "") if stored else None)
    if not per_stream or not batch:
        per_stream = per_stream or stored.get("threads_per_stream") or 0
        batch = batch or stored.get("batch_chunks") or 0
    if not on_cpu or (threads == 1 and not per_stream):
        per_stream = 1
    if not per_stream or not batch:
        tuning = _tuned(separator, threads, per_stream, batch, measure)
        if tuning is not None:
            per_stream, batch = tuning.threads_per_stream, tuning.batch_chunks
    per_stream, batch = per_stream or 1, batch or 1
    return Streams(chosen.streams or streams_on(device, threads, per_stream), per_stream, batch, kernel)


def provenance_of(
    chosen: SeparateSettings,
    listing: Listing,
    separator: Separator | None,
    device: torch.device,
    streams: Streams,
    cutting_version: int,
    notes: Mapping[str, str] | None = None,
) -> Provenance:
    """All that the bytes of the shards follow from; not where they go, nor how many processes and streams make them."""
    table = chosen.tracks_csv
    if table is not None and not table.is_file():
        raise MixstyleError(f"separate.tracks_csv={table}: no such file", code="not-found")
    settings = shaping(chosen)
    if table is not None:
        settings["tracks_csv"] = f"{table} ({sha256_file(table)[:16]})"
    if chosen.measure_songs:  # only where it differs from what folders were begun with before it existed
        settings["measure_songs"] = True
    versions = {"format": SHARD_VERSION}
    later = {"cutting_version": cutting_version, "listing_version": listing.version}
    versions |= {name: version for name, version in later.items() if version > 1}
    if separator is not None:
        settings |= {
            "num_overlap": separator.file.num_overlap,
            "device": device.type,
            "batch_chunks": streams.batch_chunks,
            # a GPU's results do not hang on the CPU's threads
            "threads_per_stream": streams.threads_per_stream if device.type == "cpu" else None,
            **streams.kernel_setting,
        }
        versions["inference_version"] = INFERENCE_VERSION
    made_from = {
        "listing": listing.digest,
        "tracks": len(listing.sizes),
        "separator": separator.fingerprint if separator else "stems",
    }
    return Provenance("separate", settings, versions, made_from, notes or {})


def _settings_of_folder(chosen: SeparateSettings, separator: Separator, device: torch.device) -> dict[str, Any]:
    """The settings of the folder, where they are those of the same network in the same precision; else nothing."""
    path = chosen.stems_dir / SETTINGS
    if not path.exists():
        return {}
    try:
        stored = read_provenance(path, RENAMED).flat
    except MixstyleError:  # reported where the settings are compared
        return {}
    now = {"separator": separator.fingerprint, "precision": chosen.precision, "device": device.type}
    return stored if all(stored.get(name) == value for name, value in now.items()) else {}


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
        say("separate: measuring how many chunks and threads to use together (once for this machine and separator)")
        tuning = tune(separator, threads, threads_per_stream, batch_chunks, available_memory())
        how = "measured" if store_tuning(case, tuning) else f"measured; {tunings_folder()} cannot be written"
    tried = ", ".join(f"{name}: {seconds:.2f} s a chunk" for name, seconds in tuning.chunk_s.items())
    per_stream = f", {tuning.threads_per_stream} threads a stream" if on_cpu else ""
    say(f"separate: batches of {tuning.batch_chunks}{per_stream} ({tried}; {how})")
    return tuning


def available_memory(meminfo: Path = Path("/proc/meminfo")) -> float:
    """Bytes of the machine's memory that could be had now; half of all of it where only that is told (macOS)."""
    try:
        lines = meminfo.read_text(encoding="ascii").splitlines()
        return next(float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    except (ValueError, OSError, AttributeError):
        return float("inf")
