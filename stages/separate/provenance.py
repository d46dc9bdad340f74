"""What cached stems follow from, as it is in their `settings.json`. Without torch: `status` only compares it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.cache.music.listing import Listing
from mixstyle.cache.stem_store.shards import VERSION as SHARD_VERSION
from mixstyle.cache.stem_store.stem_cache import RENAMED
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.provenance import SETTINGS, Provenance, read_provenance
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.separate import SeparateSettings

MACHINE = "machine"
"""Of the note in `settings.json`, and of the entry in a sidecar: the kind of machine (`machine_kind`)."""


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
        """The kernel for a provenance: nothing where it is torch's own, as in folders from before there was another."""
        return {"lstm_kernel": self.lstm_kernel} if self.lstm_kernel else {}


def threads_of(chosen: SeparateSettings) -> int:
    """Threads of the network on a CPU: those that the settings name, else every core this process may use."""
    return chosen.threads or usable_cores()


def known_streams(chosen: SeparateSettings, stored: Mapping[str, Any], device: str) -> tuple[int, int]:
    """CPU threads of a stream and chunks of a batch: as the settings name them, else as the folder was begun with.

    0 for what neither tells. stored: of `settings_of_folder`. device: its type.
    """
    threads = threads_of(chosen)
    per_stream = max(1, threads // chosen.streams) if chosen.streams else 0
    batch = chosen.batch_chunks
    if not per_stream or not batch:
        per_stream = per_stream or stored.get("threads_per_stream") or 0
        batch = batch or stored.get("batch_chunks") or 0
    if device != "cpu" or (threads == 1 and not per_stream):
        per_stream = 1
    return per_stream, batch


def settings_of_folder(chosen: SeparateSettings, separator: str, device: str) -> dict[str, Any]:
    """The settings of the folder, where they are those of the same network in the same precision; else nothing.

    separator: the network's fingerprint. device: its type.
    """
    path = chosen.stems_dir / SETTINGS
    if not path.exists():
        return {}
    try:
        stored = read_provenance(path, RENAMED).flat
    except MixstyleError:  # reported where the settings are compared
        return {}
    now = {"separator": separator, "precision": chosen.precision, "device": device}
    return stored if all(stored.get(name) == value for name, value in now.items()) else {}


def provenance_of(
    chosen: SeparateSettings,
    listing: Listing,
    separator: SeparatorRecord | None,
    device: str,
    streams: Streams,
    cutting_version: int,
    notes: Mapping[str, str] | None = None,
) -> Provenance:
    """All that the bytes of the shards follow from; not where they go, nor how many processes and streams make them.

    device: its type.
    """
    table = chosen.tracks_csv
    if table is not None and not table.is_file():
        raise not_there(table, named_by="separate.tracks_csv=")
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
            "num_overlap": separator.num_overlap,
            "device": device,
            "batch_chunks": streams.batch_chunks,
            # a GPU's results do not depend on the CPU's threads
            "threads_per_stream": streams.threads_per_stream if device == "cpu" else None,
            **streams.kernel_setting,
        }
        versions["inference_version"] = INFERENCE_VERSION
    made_from = {
        "listing": listing.digest,
        "tracks": len(listing.sizes),
        "separator": separator.fingerprint if separator else "stems",
    }
    return Provenance("separate", settings, versions, made_from, notes or {})
