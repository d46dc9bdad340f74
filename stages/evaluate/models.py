"""What an evaluation compares: trained encoders, baselines, and models that somebody else brings."""

import importlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
import torchaudio
from torch import Tensor

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.pipeline.encoder.encoder import Encoder, untrained_like
from mixstyle.pipeline.encoder.mel import StemMel

MFCCS = 20


class EmbeddingModel(Protocol):
    """What may be evaluated. name: its row in tables."""

    name: str

    def embed(self, mixtures: Tensor, stems: Tensor) -> Tensor:
        """Embeddings [B, E] of mixtures [B, 2, T] and their stems [B, 4, 2, T], 44.1 kHz, float32."""
        ...


@dataclass(frozen=True)
class Clips:
    """Clips to embed; descriptors [B, D] are computed once for all rows that want them."""

    stems: Tensor
    given: Tensor | None = None

    @cached_property
    def mixtures(self) -> Tensor:
        return self.stems.sum(1)

    @cached_property
    def descriptors(self) -> Tensor:
        return self.given if self.given is not None else describe(self.stems)

    def to(self, device: torch.device) -> "Clips":
        return Clips(self.stems.to(device), None if self.given is None else self.given.to(device))


class Row(Protocol):
    """A row of an evaluation."""

    @property
    def name(self) -> str: ...

    def of(self, clips: Clips) -> Tensor: ...


@dataclass(frozen=True)
class EncoderRow:
    """An encoder, by its own mel. trained_on: numbers of its training tracks."""

    name: str
    encoder: Encoder
    mel: StemMel
    trained_on: tuple[int, ...] = ()

    def of(self, clips: Clips) -> Tensor:
        return embed_clips(self.encoder, self.mel, clips.stems, clips.descriptors)


@dataclass(frozen=True)
class DescriptorRow:
    """Descriptors, z-scored over the clips that are evaluated: no training at all."""

    name: str = "raw descriptors"

    def of(self, clips: Clips) -> Tensor:
        return clips.descriptors


class MfccRow:
    """Means and standard deviations of the mixture's MFCCs over time, the field's plainest baseline."""

    name = "MFCC statistics"

    def __init__(self) -> None:
        self._mfcc = torchaudio.transforms.MFCC(
            SAMPLE_RATE, MFCCS, melkwargs={"n_fft": 2048, "hop_length": 1024, "n_mels": 64}
        )

    def of(self, clips: Clips) -> Tensor:
        found = self._mfcc.to(clips.stems.device)(clips.mixtures.mean(1))
        return torch.cat([found.mean(-1), found.std(-1)], -1)


@dataclass(frozen=True)
class GivenRow:
    """A model that somebody brought."""

    model: EmbeddingModel

    @property
    def name(self) -> str:
        return self.model.name

    def of(self, clips: Clips) -> Tensor:
        found = self.model.embed(clips.mixtures, clips.stems)
        if found.ndim != 2 or len(found) != len(clips.stems):
            raise MixstyleError(f"{self.name}: embed gave {list(found.shape)} for {len(clips.stems)} clips, not [B, E]")
        return found


class StemFX:
    """StemFX (`pip install stemfx`), as an example of a model from elsewhere: `evaluate.models=
    [mixstyle.stages.evaluate.models:StemFX]`. It looks at the first 10 s of a clip. Its weights are those that stemfx
    downloads, or has downloaded. Raises MixstyleError where it or they are missing.
    """

    name = "StemFX"

    def __init__(self) -> None:
        try:
            stemfx = importlib.import_module("stemfx")
            self._model = stemfx.load(device="cpu")
        except ImportError as error:
            raise MixstyleError(f"evaluate.models: StemFX cannot be imported ({error}); pip install stemfx") from error
        except Exception as error:
            raise MixstyleError(f"evaluate.models: StemFX's weights cannot be had ({error})") from error

    def embed(self, mixtures: Tensor, stems: Tensor) -> Tensor:
        return self._model.embed([dict(zip(STEMS, clip.cpu(), strict=True)) for clip in stems])


Z_SCORED = ("raw descriptors", "MFCC statistics")
"""Rows whose dimensions have units: they are z-scored over the pool before cosines are taken."""


def rows_of(checkpoints: list[Path], models: tuple[str, ...], device: torch.device) -> list[Row]:
    """The encoders of the checkpoints, an untrained one, the baselines, and the models named `package.module:name`.

    Raises MixstyleError for checkpoints and models that cannot be loaded, by name.
    """
    loaded: dict[str, LoadedEncoder] = {}
    for path in checkpoints:
        name = path.stem if path.stem not in loaded else f"{path.parent.name}/{path.stem}"
        if name in loaded or len({p.stem for p in checkpoints}) < len(checkpoints):
            name = path.parent.parent.name if path.parent.name == "ckpt" else path.parent.name
        while name in loaded:
            name = f"{name}'"
        loaded[name] = load_encoder(path, device)
    rows: list[Row] = [
        EncoderRow(name, one.encoder, one.mel, tuple(one.content.get("trained_on", torch.empty(0)).tolist()))
        for name, one in loaded.items()
    ]
    first = next(iter(loaded.values()))
    rows.append(EncoderRow("untrained", untrained_like(first.encoder).to(device), first.mel))
    return [*rows, DescriptorRow(), MfccRow(), *(GivenRow(_given(model)) for model in models)]


def _given(reference: str) -> EmbeddingModel:
    module, colon, name = reference.partition(":")
    if not colon:
        raise MixstyleError(f"evaluate.models: {reference!r} should be written as package.module:name")
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MixstyleError(f"evaluate.models: {reference}: {error}") from error
    model = model() if isinstance(model, type) else model
    if not (hasattr(model, "embed") and hasattr(model, "name")):
        raise MixstyleError(f"evaluate.models: {reference} has no `name` and `embed(mixtures, stems)`")
    return model
