"""A training that starts from the weights of another encoder (fine-tuning), and not from random ones.

What the encoder knows of descriptors (their statistics, and how they are whitened) is kept with its weights: these were
trained with them. The head of a chain's parameters is no part of an encoder and starts anew.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch

from mixstyle.cache.models.checkpoints import LoadedEncoder, track_numbers
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.stages.common.chosen_encoder import checkpoint_hash, chosen_checkpoints
from mixstyle.stages.settings.base import plain
from mixstyle.stages.settings.train import TrainSettings

FREE = ("dropout", "descriptor_share", "part_s")
"""Sizes of an encoder that may differ from those of the encoder that it starts from: no weight depends on them."""
_SETTINGS = {"skip": "descriptor_skip"}
"""Settings of `train` that have another name than the encoder's size."""


@dataclass(frozen=True)
class Start:
    """The encoder that a training starts from. sha256: of its file, the first 16 hex digits."""

    path: Path
    loaded: LoadedEncoder
    sha256: str

    @property
    def trained_on(self) -> torch.Tensor:
        """Numbers of the songs that it was trained on, int64 [N]."""
        return self.loaded.content.get("trained_on", track_numbers(()))

    @property
    def separators(self) -> tuple[SeparatorRecord, ...]:
        """Those whose stems it was trained on."""
        return self.loaded.separators

    def network(self, config: EncoderConfig, mel: StemMel, seed: int) -> Encoder:
        """An encoder of these sizes with its weights, in training mode. seed: for what is drawn after it.

        Raises MixstyleError ("bad-setting") where the sizes or the spectrogram are others than its own, and names the
        settings that fit.
        """
        own = self.loaded
        told = {"n_fft": own.mel.n_fft, "hop_length": own.mel.hop_length, "channel_pairs": own.mel.channels}
        now = {"n_fft": mel.n_fft, "hop_length": mel.hop_length, "channel_pairs": mel.channels}
        for field in dataclasses.fields(EncoderConfig):
            if field.name not in (*FREE, "n_descriptors"):
                name = _SETTINGS.get(field.name, field.name)
                told[name], now[name] = getattr(own.encoder.config, field.name), getattr(config, field.name)
        if wrong := [name for name in told if told[name] != now[name]]:
            raise MixstyleError(
                f"train.start_from: {self.path} is an encoder of other sizes; to start from it, set "
                f"{_said((name, told[name]) for name in wrong)}",
                code="bad-setting",
            )
        torch.manual_seed(seed)
        encoder, weights = Encoder(config), own.encoder.state_dict()
        expected = encoder.state_dict()  # a kept share of descriptors has columns, which are the same in all encoders
        encoder.load_state_dict({name: weights.get(name, value) for name, value in expected.items()})
        return encoder


def start_of(options: TrainSettings) -> Start | None:
    """The encoder that the settings have a training start from; None where it starts from random weights.

    Raises MixstyleError where there is no such file, or it is no encoder.
    """
    path = start_file(options)
    return None if path is None else Start(path, load_encoder(path), checkpoint_hash(path))


def start_file(options: TrainSettings) -> Path | None:
    """Its file on this machine. Raises MixstyleError ("not-found") where there is none, and where one behind a URL
    cannot be had."""
    if options.start_from is None:
        return None
    path = chosen_checkpoints([options.start_from], options.checkpoint_dir, options.stems_cache_dir)[0]
    if not path.is_file():
        raise MixstyleError(f"train.start_from: {path}: no such file", code="not-found")
    return path


def _said(settings: Iterable[tuple[str, object]]) -> str:
    """Settings as --set takes them.

    >>> _said([("channels", (16, 32)), ("pooling", "mean"), ("input_lufs", None)])
    'train.channels=[16,32], train.pooling=mean, train.input_lufs=null'
    """
    texts = []
    for name, value in settings:
        text = value if isinstance(value, str) else json.dumps(plain(value), separators=(",", ":"))
        texts.append(f"train.{name}={text}")
    return ", ".join(texts)
