"""Settings of `mixstyle separate`: music to cached stems. Commands that embed songs cut and separate by them, too."""

from pathlib import Path
from typing import Literal

from pydantic import model_validator
from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import (
    STRICT,
    ContradictionError,
    Device,
    Location,
    LocationOrUrl,
    NamedDevice,
    Number,
    Several,
    of_one_kind,
    setting,
)

SEPARATED = ("input", "mixtures")
"""Where a separator runs at all."""


@dataclass(frozen=True, config=STRICT)
class SeparateSettings:
    """`mixstyle separate`: music to cached stems."""

    data_path: LocationOrUrl = setting(Path("data"), shapes_output=True)
    """A folder of music, or its URL (s3://bucket/music); a text file with a path a line, or a CSV file with a column
    `path`."""
    input: Literal["mixtures", "stems"] = setting("mixtures", shapes_output=True)
    """`stems`: folders per song that hold vocals, bass, drums and other already."""
    stems_dir: LocationOrUrl = setting(Path("cache/stems"))
    """The folder that the shards of stems go to, or a URL: s3://bucket/stems."""
    separator_config: Location = setting(Path("Music-Source-Separation-Training/configs/scnet_tiny.yaml"))
    """The separator's YAML, as published beside its checkpoint."""
    separator_checkpoint: Location = setting(Path("Music-Source-Separation-Training/scnet_tiny_2.safetensors"))
    """The separator's weights."""
    clip_s: Number = setting(10.0, ge=limits.LEAST_CLIP_S, le=limits.CLIP_S, shapes_output=True, shapes_embedding=True)
    """Length of a clip."""
    clips_per_track: int = setting(
        4, unit="clips", ge=1, le=limits.CLIPS_PER_TRACK, shapes_output=True, shapes_embedding=True
    )
    """Spread evenly over the middle 80% of a track, each moved a little by the seed."""
    tracks_per_shard: int = setting(32, unit="tracks", ge=1, le=limits.PER_SHARD, shapes_output=True)
    """Tracks in a shard, the file that is written and locked as a whole."""
    seed: int = setting(0, unit="1", ge=0, le=limits.SEED, shapes_output=True, shapes_embedding=True)
    """Draws the places of clips and the split into training, validation and test."""
    validation_fraction: Number = setting(0.1, unit="1", ge=0, lt=1, shapes_output=True)
    """Share of the tracks that training is validated on."""
    test_fraction: Number = setting(0.1, unit="1", ge=0, lt=1, shapes_output=True)
    """Share of the tracks that training never sees."""
    tracks_csv: Location | None = setting(None, shapes_output=True)
    """FMA's tracks.csv: tells the artists, by whom the split is made."""
    silence_lufs: Number = setting(-60.0, ge=limits.LEAST_LUFS, le=0, shapes_output=True, shapes_embedding=True)
    """A mix below this loudness counts as silent."""
    device: Device = setting("auto")
    """Where the separator runs: auto, cpu, cuda or cuda:N."""
    devices: Several[NamedDevice] = setting((), max_length=limits.PROCESSES)
    """Several devices of one kind, a worker process on each; instead of `device`."""
    precision: Literal["fp32", "bf16", "fp16"] = setting("fp32", shapes_output=True, shapes_if=SEPARATED)
    """Number format of the separator's products."""
    batch_chunks: int = setting(0, unit="chunks", ge=0, le=limits.BATCH)
    """Chunks of audio that go through the separator together; 0 finds the fastest by a short measurement."""
    streams: int = setting(0, unit="streams", ge=0, le=limits.PROCESSES)
    """Batches that are in the separator at once, sharing its threads; 0 finds the fastest."""
    num_overlap: int | None = setting(None, unit="windows", ge=1, le=limits.WINDOWS)
    """Overrides inference.num_overlap of the separator's YAML."""
    threads: int = setting(0, unit="threads", ge=0, le=limits.PROCESSES)
    """CPU threads of the network, all streams together; 0 takes every core."""
    workers: int = setting(2, unit="processes", ge=1, le=limits.PROCESSES)
    """Processes that decode music, and threads that encode it."""
    measure_songs: bool = setting(False)
    """Also measure every song's integrated loudness, loudness range and true peak: all of it is decoded for that."""
    strict: bool = setting(False)
    """Exit non-zero when any track failed."""

    @model_validator(mode="after")
    def _fits(self) -> "SeparateSettings":
        if self.validation_fraction + self.test_fraction >= 1:
            raise ContradictionError("validation_fraction", "and separate.test_fraction leave nothing to train on")
        if not of_one_kind(self.devices):
            raise ContradictionError("devices", "should all be of one kind")
        return self
