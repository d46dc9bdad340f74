"""What an evaluation compares: trained encoders, baselines, and models that somebody else brings."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
import torchaudio
from torch import Tensor

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.remote_folder import by_url
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.pipeline.encoder.encoder import Encoder, untrained_like
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.progress import remark
from mixstyle.stages.evaluate.clips import Clips, Row
from mixstyle.stages.evaluate.tasks.metrics import DESCRIPTORS, MFCC
from mixstyle.stages.evaluate.tasks.page_parts import UNTRAINED

MFCCS = 20
SHIPPED = "shipped encoder"
"""The row of the encoder that comes with mixstyle."""


class EmbeddingModel(Protocol):
    """What may be evaluated. name: its row in tables."""

    name: str

    def embed(self, mixtures: Tensor, stems: Tensor) -> Tensor:
        """Embeddings [B, E] of mixtures [B, 2, T] and their stems [B, 4, 2, T], 44.1 kHz, float32."""
        ...


@dataclass(frozen=True)
class EncoderRow:
    """An encoder, by its own mel. trained_on: numbers of its training tracks."""

    name: str
    encoder: Encoder
    mel: StemMel
    trained_on: tuple[int, ...] = ()

    def of(self, clips: Clips) -> Tensor:
        return embed_clips(self.encoder, self.mel, clips.stems, clips.descriptors, describe=describe)


@dataclass(frozen=True)
class DescriptorRow:
    """Descriptors, z-scored over the clips that are evaluated: no training at all."""

    name: str = DESCRIPTORS

    def of(self, clips: Clips) -> Tensor:
        return clips.descriptors


class MfccRow:
    """Means and standard deviations of the mixture's MFCCs over time, the field's plainest baseline."""

    name = MFCC

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
            raise MixstyleError(
                f"{self.name}: embed gave {list(found.shape)} for {len(clips.stems)} clips, not [B, E]",
                code="misfit",
            )
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
            raise MixstyleError(
                f"evaluate.models: StemFX cannot be imported ({error}); pip install stemfx", code="no-package"
            ) from error
        except Exception as error:
            raise MixstyleError(f"evaluate.models: no weights of StemFX ({error})", code="no-package") from error

    def embed(self, mixtures: Tensor, stems: Tensor) -> Tensor:
        return self._model.embed([dict(zip(STEMS, clip.cpu(), strict=True)) for clip in stems])


def rows_of(checkpoints: Sequence[Path], models: Sequence[str], device: torch.device) -> list[Row]:
    """The encoders of the checkpoints, an untrained one, the baselines, and the models named `package.module:name`.

    Raises MixstyleError for checkpoints and models that cannot be loaded, by name.
    """
    names = _names(checkpoints)
    loaded = [load_encoder(path, device) for path in checkpoints]
    rows: list[Row] = [_encoder_row(name, one) for name, one in zip(names, loaded, strict=True)]
    rows.append(EncoderRow(UNTRAINED, untrained_like(loaded[0].encoder).to(device), loaded[0].mel))
    return [*rows, DescriptorRow(), MfccRow(), *(GivenRow(_given(model)) for model in models)]


def with_shipped(rows: Sequence[Row], songs: Sequence[CachedTrack], device: torch.device) -> list[Row]:
    """The rows and, before the untrained encoder, the shipped one, if it is not among them.

    It is left out, with a line that says why, where it does not fit this mixstyle or has been trained on one of the
    songs: what others are measured on should not depend on it.
    """
    if any(row.name == SHIPPED for row in rows):
        return list(rows)
    try:
        row = _encoder_row(SHIPPED, load_encoder(shipped_encoder(), device))
    except MixstyleError as error:
        remark(f"evaluate: the {SHIPPED} is left out: {told(error)}")
        return list(rows)
    known = sum(int(song.track_id, 16) in set(row.trained_on) for song in songs)
    if known:
        remark(f"evaluate: the {SHIPPED} is left out: it was trained on {known} of the {len(songs)} songs")
        return list(rows)
    place = next(place for place, other in enumerate(rows) if other.name == UNTRAINED)
    return [*rows[:place], row, *rows[place:]]


def with_whitened(rows: Sequence[Row], whitened: Row | None) -> list[Row]:
    """The rows and, before the raw descriptors, the whitened ones where there are any."""
    place = next(place for place, other in enumerate(rows) if other.name == DESCRIPTORS)
    return [*rows[:place], *([whitened] if whitened is not None else []), *rows[place:]]


def _encoder_row(name: str, loaded: LoadedEncoder) -> EncoderRow:
    numbers = loaded.content.get("trained_on", torch.empty(0)).tolist()
    return EncoderRow(name, loaded.encoder, loaded.mel, tuple(int(number) for number in numbers))


def _names(checkpoints: Sequence[Path]) -> list[str]:
    """A name for each checkpoint: that of the file, of the folder where files are called alike."""
    names: list[str] = []
    for path in checkpoints:
        name, folder = path.stem, Path(by_url(str(path.parent)))
        if len({other.stem for other in checkpoints}) < len(checkpoints):
            name = folder.parent.name if folder.name == "ckpt" else folder.name
        if is_shipped(path):
            name = SHIPPED
        while name in names:
            name = f"{name}'"
        names.append(name)
    return names


def is_shipped(path: Path) -> bool:
    """Whether a file is a copy of the shipped encoder."""
    try:
        shipped = shipped_encoder()
    except MixstyleError:
        return False
    return (
        path.is_file() and path.stat().st_size == shipped.stat().st_size and sha256_file(path) == sha256_file(shipped)
    )


def _given(reference: str) -> EmbeddingModel:
    module, colon, name = reference.partition(":")
    if not colon:
        raise MixstyleError(
            f"evaluate.models: {reference!r} should be written as package.module:name", code="bad-setting"
        )
    try:
        model = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise MixstyleError(f"evaluate.models: {reference}: {error}", code="bad-setting") from error
    model = model() if isinstance(model, type) else model
    if not (hasattr(model, "embed") and hasattr(model, "name")):
        raise MixstyleError(
            f"evaluate.models: {reference} has no `name` and `embed(mixtures, stems)`", code="bad-setting"
        )
    return model
