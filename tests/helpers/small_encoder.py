"""An encoder of a few thousand random weights, its file, and a profile that embeds songs with it quickly."""

import dataclasses
from pathlib import Path

import torch

from helpers.small_separator import profile, write_separator
from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import save_export
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.stages.settings.profile import Settings

DIMENSIONS = 32
SONG_S = 2.0
"""Long enough for three clips: a separator runs over little more than these."""


def write_encoder(path: Path, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    encoder = Encoder(EncoderConfig(channels=(4, 8), encoder_dim=DIMENSIONS, film_hidden=16))
    mel = StemMel(44_100, 1024, 512, 128)
    save_export(path, LoadedEncoder(encoder.eval(), mel, {}, 0, 0, {}), "a card")
    return path


def embedding_profile(folder: Path, music: Path) -> Settings:
    """Settings that embed `music` into `folder/index` with an encoder and a separator of random weights.

    Its chunks do not overlap, which takes half the time.
    """
    if not (folder / "separator").exists():
        write_separator(folder / "separator", num_overlap=1)
    settings = profile(folder, music)
    encoder = folder / "encoder.safetensors"
    if not encoder.exists():
        write_encoder(encoder)
    options = dataclasses.replace(settings.embed, encoder=encoder, device="cpu", workers=1, index_dir=folder / "index")
    return dataclasses.replace(settings, embed=options)
