"""Settings of the commands that embed songs: embed, index, search, compare and browse."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import STRICT, Device, LocationOrUrl, setting


@dataclass(frozen=True, config=STRICT)
class EmbedSettings:
    """`mixstyle embed`, `index`, `search`, `compare` and `browse`; of `match --search` the encoder. Songs are cut and
    separated as `separate` says, and `describe` and `stems` read that section alone."""

    encoder: LocationOrUrl | None = setting(None)
    """A checkpoint or an exported encoder, or its URL; null takes the shipped one."""
    device: Device = setting("auto")
    """Where separator and encoder run: auto, cpu, cuda or cuda:N."""
    index_dir: LocationOrUrl = setting(Path("index"))
    """What `index` fills, and `search` and `browse` look into: a folder, or a URL such as s3://bucket/index."""
    workers: int = setting(2, unit="processes", ge=1, le=limits.PROCESSES)
    """Processes that decode music ahead of the separator."""
    dropped_mb: int = setting(200, unit="MB", ge=1, le=4000)
    """The largest song that the page of `browse` takes."""
