"""Music to embeddings in one call: `mixstyle.load().embed("song.wav")`.

A song is cut as the cached ones are (`mixstyle.stages.songs.clips`), its clips are separated, described and encoded,
and its embedding is the mean of theirs on the unit sphere, brought back onto it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.separation.msst import digest
from mixstyle.pipeline.separation.separator import Precision, Separator, load_separator
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped, shipped_encoder
from mixstyle.stages.common.progress import progress
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.clips import CutSong, SongClips, cut_audio, cut_files, given_stems, stems_of

Music = str | Path | Tensor | Mapping[str, Tensor]
"""A file, a folder of stems, a mixture [2, T] at 44.1 kHz, or stems by name, [2, T] each."""


@dataclass(frozen=True)
class EmbeddedSong:
    """embedding: [E], of unit length. clips: of each clip [n, E], of unit length too. descriptors: [n, D], in their own
    units, named by `mixstyle.DESCRIPTORS`. starts_s: where the clips begin."""

    name: str
    duration_s: float
    embedding: Tensor
    clips: Tensor
    descriptors: Tensor
    starts_s: tuple[float, ...]

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """The song's own descriptors [D]: medians over its clips."""
        return np.median(self.descriptors.numpy(), axis=0).astype(np.float32)


class Embedder:
    """An encoder and the separator before it; `mixstyle.load` makes one. For one thread at a time.

    options: how songs are cut (`clip_s`, `clips_per_track`, `seed`, `silence_lufs`).
    """

    def __init__(
        self, encoder: LoadedEncoder, separator: Separator, options: SeparateSettings, device: torch.device
    ) -> None:
        self.encoder, self.separator, self.options, self.device = encoder, separator, options, device
        self._decoder: Decoder | None = None

    @property
    def dimensions(self) -> int:
        """E: how long an embedding is."""
        return self.encoder.encoder.config.encoder_dim

    @cached_property
    def fingerprint(self) -> dict[str, str | int | float]:
        """What embeddings follow from: those of equal fingerprints may be compared."""
        cut = {name: getattr(self.options, name) for name in ("clip_s", "clips_per_track", "seed", "silence_lufs")}
        return {"encoder": digest(self.encoder.encoder.state_dict()), "separator": self.separator.fingerprint, **cut}

    def embed(self, music: Music | Sequence[Music]) -> Tensor:
        """The embedding [E] of one piece of music; [N, E] of a list, and of mixtures [N, 2, T]. Of unit length.

        A list shows its progress. Raises MixstyleError, naming the piece, for music that cannot be read, is silent or
        too short, and for tensors of other shapes.
        """
        if isinstance(music, Tensor) and music.ndim == 3:
            music = list(music)
        if _is_one(music):
            return self.song(music).embedding
        pieces = cast(Sequence[Music], music)
        if not pieces:
            return torch.empty(0, self.dimensions)
        with progress("embed", len(pieces), "songs", shown=len(pieces) > 1) as bar:
            found = []
            for place, piece in enumerate(pieces):
                found.append(self.song(piece, f"number {place}").embedding)
                bar.advance()
        return torch.stack(found)

    def song(self, music: Music, name: str = "music") -> EmbeddedSong:
        """All that is known of one piece of music. name: what a tensor is called. Raises as `embed` does."""
        return self.encode(self.clips(music, name))

    def clips(self, music: Music, name: str = "music") -> SongClips:
        """The clips of a piece of music, as stems."""
        if isinstance(music, str | Path):
            path = Path(music)
            self._decoder = self._decoder or Decoder()
            try:
                return stems_of(self.cut(path, self._decoder), self.separator)
            except UnreadableMusic as error:
                raise MixstyleError(f"{path}: {error}") from error
        separator, audio = (None, _stems(music, name)) if isinstance(music, Mapping) else (self.separator, music)
        shape = (len(STEMS), 2) if separator is None else (2,)
        if audio.shape[:-1] != shape:
            raise MixstyleError(f"{name}: should be [2, T] at {SAMPLE_RATE} Hz, not {list(audio.shape)}")
        if not torch.isfinite(audio).all():
            raise MixstyleError(f"{name}: holds NaN or infinite samples")
        try:
            return stems_of(cut_audio(self.options, audio, name, separator), separator)
        except UnreadableMusic as error:
            raise MixstyleError(f"{name}: {error}") from error

    def cut(self, path: Path, decoder: Decoder) -> CutSong:
        """A file or a folder of stems, cut. Raises UnreadableMusic with the reason, MixstyleError for neither."""
        if path.is_dir():
            return cut_files(self.options, given_stems(path), path.name, None, decoder)
        if not path.is_file():
            raise MixstyleError(f"{path}: no such file")
        return cut_files(self.options, {"": path}, path.name, self.separator, decoder)

    @torch.inference_mode()
    def encode(self, clips: SongClips) -> EmbeddedSong:
        """Describes and encodes clips."""
        stems = torch.stack(clips.stems).to(self.device)
        descriptors = describe(stems)
        shortest = self.encoder.encoder.config.min_frames
        mel = self.encoder.mel(stems)
        if mel.shape[-1] < shortest:
            raise MixstyleError(f"{clips.name}: too short: {mel.shape[-1]} mel frames, the encoder needs {shortest}")
        each = F.normalize(self.encoder.encoder(mel, descriptors).float(), dim=-1).cpu()
        return EmbeddedSong(
            clips.name,
            clips.duration_s,
            F.normalize(each.mean(0), dim=-1),
            each,
            descriptors.cpu(),
            tuple(start / SAMPLE_RATE for start in clips.starts),
        )

    def close(self) -> None:
        """Ends the process that decodes; another is started when one is needed."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(
    checkpoint: str | Path | None = None,
    *,
    separator: Separator | tuple[str | Path, str | Path] | None = None,
    device: str = "auto",
    precision: Precision = "fp32",
    clip_s: float = 10.0,
    clips_per_track: int = 4,
) -> Embedder:
    """An `Embedder`: `mixstyle.load().embed("song.wav")`.

    checkpoint: of `mixstyle train`, or what `mixstyle export` wrote; None takes the shipped encoder. separator: a
    loaded one, or its YAML and its checkpoint; None takes the shipped small one. precision: of the separator that is
    loaded here. clip_s, clips_per_track: how much of a song is looked at. Raises MixstyleError for files that are
    missing or wrong.
    """
    options = SeparateSettings(clip_s=clip_s, clips_per_track=clips_per_track)
    on = resolve_device(device)
    if not isinstance(separator, Separator):
        config, weights = separator or (shipped(SEPARATOR_CONFIG), shipped(SEPARATOR))
        separator = load_separator(config, weights, on, precision)
    path = shipped_encoder() if checkpoint is None else checkpoint
    return Embedder(load_encoder(path, on), separator, options, on)


def _is_one(music: Music | Sequence[Music]) -> TypeGuard[Music]:
    return isinstance(music, str | Path | Tensor | Mapping)


def _stems(given: Mapping[str, Tensor], name: str) -> Tensor:
    """[4, 2, T] of stems by name."""
    if set(given) != set(STEMS):
        raise MixstyleError(f"{name}: stems should be {', '.join(STEMS)}, not {', '.join(given) or 'none'}")
    shapes = {tuple(stem.shape) for stem in given.values()}
    if len(shapes) != 1:
        raise MixstyleError(f"{name}: stems should be [2, T] alike, not {sorted(shapes)}")
    return torch.stack([given[stem] for stem in STEMS])
