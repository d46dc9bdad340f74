"""Settings of `mixstyle demo-songs`: rendered songs to try everything on."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import STRICT, Location, Number, setting


@dataclass(frozen=True, config=STRICT)
class DemoSongsSettings:
    """`mixstyle demo-songs`: rendered songs to try everything on."""

    output_dir: Location = setting(Path("data/demo"))
    """Gets songs/ (mixtures), stems/ (true stems) and songs.json."""
    songs: int = setting(16, unit="songs", ge=0, le=limits.COUNT)
    """Songs to render; 0 makes none: the profile brings its own music."""
    seed: int = setting(0, unit="1", ge=0, le=limits.SEED, shapes_output=True)
    """The same seed gives the same songs, to the byte."""
    duration_s: Number = setting(48.0, ge=8, le=limits.SONG_S, shapes_output=True)
    """Length of each song."""
    stems: bool = setting(True, shapes_output=True)
    """Write the true stems too."""
    workers: int = setting(2, unit="processes", ge=1, le=limits.PROCESSES)
    """Processes that render songs."""
