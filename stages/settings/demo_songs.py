"""Settings of rendered songs."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class DemoSongsSettings:
    """`mixstyle demo-songs`: rendered songs to try everything on."""

    output_dir: Path = Path("data/demo")
    """Gets songs/ (mixtures), stems/ (true stems) and songs.json."""
    songs: int = 16
    """0 makes none: the profile brings its own music."""
    seed: int = 0
    duration_s: float = 48.0
    stems: bool = True
    """Write the true stems too."""
    workers: int = 2
