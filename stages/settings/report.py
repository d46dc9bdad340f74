"""Settings of `mixstyle report`: one page about a trained encoder."""

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import STRICT, Device, LocationOrUrl, setting


@dataclass(frozen=True, config=STRICT)
class ReportSettings:
    """`mixstyle report`: one page about a trained encoder."""

    report_dir: LocationOrUrl = setting(Path("report"))
    """The folder that the page and its figures go to, or a URL such as s3://bucket/report."""
    checkpoint: LocationOrUrl | None = setting(None)
    """The encoder, or its URL; null takes best_model.pt of the training's checkpoint folder."""
    device: Device = setting("auto")
    """Where the encoder runs: auto, cpu, cuda or cuda:N."""
    batch_clips: int = setting(8, unit="clips", ge=1, le=limits.BATCH)
    """Clips that are embedded together."""
    split: Literal["auto", "all", "train", "validation", "test"] = setting("auto", shapes_output=True)
    """Tracks whose retrieval is reported; `auto`: those outside training where there are at least 10, else all."""
