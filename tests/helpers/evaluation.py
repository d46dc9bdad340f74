"""Songs to evaluate on, a model as somebody might bring it, and an evaluation that takes seconds."""

import dataclasses
from pathlib import Path
from typing import Any

import torch

from helpers.small_cache import make_cache
from helpers.small_separator import with_separator
from helpers.training import CLIP_S, settings_of
from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import train

HELD_OUT = 4
"""Songs of `make_songs` that are not for training."""


class Levels:
    """A model as somebody might bring it: the level of each stem in the mixture."""

    name = "levels"

    def embed(self, mixtures: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
        assert mixtures.shape == (len(stems), 2, stems.shape[-1])
        return stems.square().mean((-1, -2)).sqrt()


def make_songs(folder: Path) -> list[CachedTrack]:
    """Writes a cache of 8 songs with 3 clips each; its held-out songs."""
    make_cache(folder, tracks=8, clips=3, clip_s=CLIP_S, validation=HELD_OUT)
    return [track for track in StemCache(folder).tracks if track.split != "train"]


def trained_on_songs(folder: Path) -> Settings:
    """A training on the stems of `make_songs`, with a separator to send mixes through; its settings."""
    make_songs(folder / "stems")
    settings = settings_of(folder / "run", num_epochs=1)
    features(settings)
    train(settings)
    return with_separator(settings, folder / "separator")


def songs_without_audio(count: int = HELD_OUT, clips: int = 3) -> list[CachedTrack]:
    """Held-out songs of a cache that is not there: for what is drawn before any clip is read."""
    return [
        CachedTrack(
            f"{song:012x}",
            f"song{song}.flac",
            "test",
            song,
            0,
            tuple(CachedClip(f"{song:012x}_{slot}", clips * song + slot, 0, 1.0, 0, 0, 0) for slot in range(clips)),
            (0, 0),
        )
        for song in range(count)
    ]


def evaluation_of(settings: Settings, folder: Path, **changes: Any) -> Settings:
    """The settings with a small evaluation, which goes to the folder."""
    options = {
        "tasks": ("same-chain", "content-hard"),
        "chains": 10,
        "effects": (1, 3),
        "hard_chains": 3,
        "parameter_clips": 10,
        "whitening_chains": 3,
        "bank_dir": folder / "banks",
        "workers": 0,
        "device": "cpu",
        **changes,
    }
    return dataclasses.replace(
        settings, evaluate=dataclasses.replace(settings.evaluate, evaluate_dir=folder, **options)
    )
