"""A profile that trains a few thousand weights in seconds, and what its training wrote down."""

import csv
from pathlib import Path

import pytest
import torch
import yaml

from mixstyle.stages.settings.profile import Settings, load_settings

CLIP_S = 1.0
TRAIN = {
    "batch_size": 2,
    "num_epochs": 3,
    "clip_duration_s": 0.75,
    "channels": [2, 4],
    "encoder_dim": 8,
    "film_hidden": 8,
    "hop_length": 512,
    "band_mels": 64,
    "band_step": 48,  # three sub-bands: the files and the steps take a quarter of the time that the usual twelve do
    "learning_rate": 0.003,
    "save_every_steps": 1,
    "checkpoint_every": 1,
    "workers": 0,
    "threads": 1,
    "device": "cpu",
}


def profile(folder: Path, **changes: object) -> Path:
    """A profile whose stems and descriptors are shared, and whose training has a folder of its own."""
    folder.mkdir(exist_ok=True)
    shared = folder.parent
    data = {
        "separate": {"stems_dir": str(shared / "stems")},
        "features": {"features_path": str(shared / "features.zarr"), "device": "cpu"},
        "train": {**TRAIN, "checkpoint_dir": str(folder / "ckpt"), "log_dir": str(folder / "logs"), **changes},
    }
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def settings_of(folder: Path, **changes: object) -> Settings:
    return load_settings(profile(folder, **changes))


def rows_of(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "ckpt" / "loss.csv").open()))


def diverge(patch: pytest.MonkeyPatch) -> None:
    """Has AdamW's first steps leave weights of 1e30, as a learning rate far too high would: no loss is finite then."""
    whole = torch.optim.AdamW.step

    def step(self: torch.optim.AdamW, closure: None = None) -> None:
        whole(self, closure)
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    parameter.add_(1e30)

    patch.setattr(torch.optim.AdamW, "step", step)
