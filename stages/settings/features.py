"""Settings of `mixstyle features`: descriptors of the cached clips."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import STRICT, Device, LocationOrUrl, setting


@dataclass(frozen=True, config=STRICT)
class FeaturesSettings:
    """`mixstyle features`: descriptors of the cached clips. None of its settings shapes them."""

    features_path: LocationOrUrl = setting(Path("cache/features.zarr"))
    """The Zarr store that the descriptors go to, or its URL: s3://bucket/features.zarr."""
    device: Device = setting("auto")
    """Where descriptors are computed: auto, cpu, cuda or cuda:N."""
    batch_clips: int = setting(8, unit="clips", ge=1, le=limits.BATCH)
    """Clips that are described together."""
    workers: int = setting(2, unit="threads", ge=1, le=limits.PROCESSES)
    """Threads that read and decode shards; on a CPU each also describes what it decoded, with one thread of torch's."""
