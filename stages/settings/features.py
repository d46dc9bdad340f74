"""Settings of descriptors of the cached clips."""

from dataclasses import dataclass
from pathlib import Path

from mixstyle.stages.settings.base import Device


@dataclass(frozen=True)
class FeaturesSettings:
    """`mixstyle features`: descriptors of the cached clips."""

    features_path: Path = Path("cache/features.zarr")
    device: Device = "auto"
    batch_clips: int = 8
    workers: int = 2
    """Threads that read and decode shards; on a CPU each also describes what it decoded, with one thread of torch's."""
