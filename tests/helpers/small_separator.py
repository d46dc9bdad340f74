"""A separator of a few thousand random weights, its files, songs to separate, and a profile that does it quickly."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from safetensors.torch import save_file

from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig
from mixstyle.stages.settings.profile import Settings, load_settings

RATE = 44_100
CLIP_S = 0.5
CLIP = round(CLIP_S * RATE)
CHUNK = 16_384

MODEL: dict[str, Any] = {
    "sources": ["drums", "bass", "other", "vocals"],
    "audio_channels": 2,
    "dims": [4, 4, 8],
    "nfft": 1024,
    "hop_size": 512,
    "win_size": 1024,
    "normalized": True,
    "band_SR": [0.2, 0.3, 0.5],
    "band_stride": [1, 4, 16],
    "band_kernel": [3, 4, 16],
    "conv_depths": [1, 1, 1],
    "compress": 4,
    "conv_kernel": 3,
    "num_dplayer": 2,
    "expand": 1,
}


def write_separator(folder: Path, seed: int = 0, normalize: bool = False, num_overlap: int = 2) -> tuple[Path, Path]:
    """Writes a YAML as MSST publishes them and a checkpoint; their paths."""
    torch.manual_seed(seed)
    network = SCNet(SCNetConfig.from_mapping(MODEL), "masked")
    folder.mkdir(parents=True, exist_ok=True)
    config, checkpoint = folder / "separator.yaml", folder / "separator.safetensors"
    content = {
        "audio": {"chunk_size": CHUNK, "num_channels": 2, "sample_rate": RATE},
        "model": MODEL,
        "training": {"instruments": MODEL["sources"], "target_instrument": None},
        "inference": {"batch_size": 1, "num_overlap": num_overlap, "normalize": normalize},
    }
    config.write_text(yaml.safe_dump(content))
    save_file(network.state_dict(), checkpoint)
    return config, checkpoint


def song(seed: int, seconds: float = 3.0, rate: int = RATE, channels: int = 2) -> np.ndarray:
    """[T, C]: noise and a tone, about -17 dBFS, another for each seed."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate))[:, None] / rate
    tone = 0.2 * np.sin(2 * np.pi * rng.uniform(80, 2_000) * t + rng.uniform(0, 6, channels))
    return (tone + 0.05 * rng.standard_normal((len(t), channels))).astype(np.float32)


def write_songs(folder: Path, songs: int, seed: int = 0, seconds: float = 3.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(songs):
        soundfile.write(folder / f"song {i}.flac", song(1_000 * seed + i, seconds), RATE)
    return folder


def with_separator(settings: Settings, folder: Path, **changes: Any) -> Settings:
    """The settings with a separator of random weights, written to a folder, that takes one chunk at a time."""
    config, checkpoint = write_separator(folder, num_overlap=1)
    own = {"separator_config": config, "separator_checkpoint": checkpoint, "device": "cpu"}
    one = {"batch_chunks": 1, "streams": 1, "threads": 1}
    return dataclasses.replace(settings, separate=dataclasses.replace(settings.separate, **own, **one, **changes))


def profile(folder: Path, music: Path, **separate: Any) -> Settings:
    """Settings that separate `music` into `folder/stems` with the separator in `folder/separator`."""
    if not (folder / "separator").exists():
        write_separator(folder / "separator")
    section = {
        "data_path": str(music),
        "stems_dir": str(folder / "stems"),
        "separator_config": str(folder / "separator" / "separator.yaml"),
        "separator_checkpoint": str(folder / "separator" / "separator.safetensors"),
        "clip_s": CLIP_S,
        "clips_per_track": 3,
        "tracks_per_shard": 2,
        "device": "cpu",
        "threads": 1,
        "batch_chunks": 1,
        "workers": 1,
        **separate,
    }
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({"separate": section, "train": {"clip_duration_s": CLIP_S}}))
    return load_settings(path)


def hashes(stems_dir: Path, names: Sequence[str] = ("*.tar", "*.json", "*.gz", "*.csv")) -> dict[str, bytes]:
    """The bytes of everything in a folder of stems."""
    return {path.name: path.read_bytes() for name in names for path in sorted(stems_dir.glob(name))}
