"""Settings of music to cached stems."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mixstyle.stages.settings.base import Device


@dataclass(frozen=True)
class SeparateSettings:
    """`mixstyle separate`: music to cached stems."""

    data_path: Path = Path("data")
    """A folder of music, a text file with a path a line, or a CSV file with a column `path`."""
    input: Literal["mixtures", "stems"] = "mixtures"
    """`stems`: folders per song that hold vocals, bass, drums and other already."""
    stems_dir: Path = Path("cache/stems")
    separator_config: Path = Path("Music-Source-Separation-Training/configs/scnet_tiny.yaml")
    separator_checkpoint: Path = Path("Music-Source-Separation-Training/scnet_tiny.safetensors")
    clip_s: float = 10.0
    clips_per_track: int = 4
    """The first and the last clip_s of a track, the rest seeded by the track's relative path."""
    tracks_per_shard: int = 32
    seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    tracks_csv: Path | None = None
    """FMA's tracks.csv: tells the artists, by whom the split is made."""
    silence_lufs: float = -60.0
    """A mix below this loudness counts as silent."""
    device: Device = "auto"
    devices: tuple[str, ...] = ()
    """Several devices of one kind, a worker process on each; instead of `device`."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    batch_chunks: int = 0
    """Chunks of audio that go through the separator together; 0 finds the fastest by a short measurement."""
    streams: int = 0
    """Batches that are in the separator at once, sharing its threads; 0 finds the fastest."""
    num_overlap: int | None = None
    """Overrides inference.num_overlap of the separator's YAML."""
    threads: int = 0
    """CPU threads of the network, all streams together; 0 takes every core."""
    workers: int = 2
    """Processes that decode music, and threads that encode it."""
    strict: bool = False
    """Exit non-zero when any track failed."""
