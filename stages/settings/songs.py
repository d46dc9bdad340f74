"""Settings of the commands that embed songs: embed, index, search, compare and browse."""

from dataclasses import dataclass
from pathlib import Path

from mixstyle.stages.settings.base import Device


@dataclass(frozen=True)
class EmbedSettings:
    """`mixstyle embed`, `index`, `search`, `compare` and `browse`. Songs are cut and separated as `separate` says."""

    encoder: Path | None = None
    """A checkpoint or an exported encoder; none takes the shipped one."""
    device: Device = "auto"
    index_dir: Path = Path("index")
    """What `index` fills, and `search` and `browse` look into."""
    workers: int = 2
    """Processes that decode music ahead of the separator."""
