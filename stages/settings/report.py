"""Settings of the page about a trained encoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mixstyle.stages.settings.base import Device


@dataclass(frozen=True)
class ReportSettings:
    """`mixstyle report`: one page about a trained encoder."""

    report_dir: Path = Path("report")
    checkpoint: Path | None = None
    """None takes best_model.pt of the training's checkpoint folder."""
    device: Device = "auto"
    batch_clips: int = 8
    split: Literal["auto", "all", "train", "validation", "test"] = "auto"
    """Tracks whose retrieval is reported; `auto`: those outside training where there are at least 10, else all."""
