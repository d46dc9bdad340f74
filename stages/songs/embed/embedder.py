"""Music to embeddings in one call: `mixstyle.load().embed("song.wav")`.

A song is read (`mixstyle.stages.songs.clips`), its clips are described and encoded, and its embedding is theirs
(`mixstyle.pipeline.encoder.embed_clips`).
"""

import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeGuard, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.reader import UnreadableMusic
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.pipeline.descriptors.table import SONG_VALUES_VERSION
from mixstyle.pipeline.encoder.embed_clips import embed_clips, song_embedding
from mixstyle.pipeline.separation.separator import Precision, Separator
from mixstyle.pipeline.separation.separator_checkpoint import digest
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped, shipped_encoder
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.progress import progress
from mixstyle.stages.common.separators import load_separator, other_separator
from mixstyle.stages.separate.rule_versions import PRESENT, SongRules
from mixstyle.stages.settings.refusals import build
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.arrays import Audio, as_mixture, as_stems, check_rate
from mixstyle.stages.songs.cached_stems import CachedStems
from mixstyle.stages.songs.clips import Decoded, SongClips, SongReader
from mixstyle.stages.songs.embed.provenance import embedding_fingerprint
from mixstyle.stages.songs.match.metric import metric_of
from mixstyle.stages.songs.match.song_match import SongMatch, check_asked, make_match
from mixstyle.stages.songs.whole_song import WholeSong

Music = str | Path | Audio | Mapping[str, Audio]
"""A file, a folder of stems, a mixture ([T], [T, 2] or [2, T]), or stems by name."""


@dataclass(frozen=True, repr=False)
class EmbeddedSong:
    """embedding: [E], of unit length. clips: of each clip [n, E], of unit length too. descriptors: [n, D], in their own
    units, named by `mixstyle.DESCRIPTORS`. starts_s: where the clips begin. loudness: of all of the song, where it was
    measured. note: what the file holds less than its header says, or empty. clip_s: how long the clips are. given:
    whether the stems were given, not separated. values_version: of the rule for `values`. Every value is finite."""

    name: str
    duration_s: float
    embedding: Tensor
    clips: Tensor
    descriptors: Tensor
    starts_s: tuple[float, ...]
    loudness: SongLoudness | None = None
    note: str = ""
    clip_s: float = 0.0
    given: bool = False
    values_version: int = SONG_VALUES_VERSION

    def __repr__(self) -> str:
        size = f"{counted(len(self.starts_s), 'clip')}, {len(self.embedding)} dimensions"
        return f"EmbeddedSong({self.name!r}, {self.duration_s:.1f} s, {size})"

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """The song's own descriptors [D], of its clips'."""
        return song_descriptors(self.descriptors.numpy(), self.values_version)


class Embedder:
    """An encoder and the separator before it; `mixstyle.load` makes one. For one thread at a time.

    options: how songs are cut (`clip_s`, `clips_per_track`, `seed`, `silence_lufs`) and separated (`batch_chunks`,
    `streams`, `threads`). rules: of cutting, and of songs' descriptors. measure, cached: as `SongReader` has them.
    words: options that have the commands use the same.
    """

    def __init__(
        self,
        encoder: LoadedEncoder,
        separator: Separator,
        options: SeparateSettings,
        device: torch.device,
        *,
        rules: SongRules = PRESENT,
        measure: bool = False,
        cached: CachedStems | None = None,
        words: Sequence[str] = (),
    ) -> None:
        self.encoder, self.separator, self.options, self.device = encoder, separator, options, device
        self.rules, self.words = rules, tuple(words)
        self.reader = SongReader(options, separator, cutting_version=rules.cutting, measure=measure, cached=cached)
        self._measuring = SongReader(options, separator, cutting_version=rules.cutting, measure=True, cached=cached)
        self._decoder: Decoder | None = None

    def __repr__(self) -> str:
        return f"Embedder({self.dimensions} dimensions, separator {self.separator.name!r}, {self.device})"

    @property
    def dimensions(self) -> int:
        """E: how long an embedding is."""
        return self.encoder.encoder.config.encoder_dim

    @cached_property
    def fingerprint(self) -> dict[str, str | int | float]:
        """What embeddings follow from: those of equal fingerprints may be compared."""
        weights = digest(self.encoder.encoder.state_dict())
        return embedding_fingerprint(weights, self.separator.fingerprint, self.options, self.rules)

    def embed(self, music: Music | Sequence[Music], *, sample_rate: int = SAMPLE_RATE) -> Tensor:
        """The embedding [E] of one piece of music; [N, E] of a list, and of mixtures [N, 2, T]. Of unit length.

        sample_rate: of arrays and tensors, in Hz; files know their own. A list shows its progress. Raises
        MixstyleError, naming the piece, for music that cannot be read, is silent or too short, and for arrays of other
        shapes.
        """
        check_rate(sample_rate)
        if isinstance(music, Tensor | np.ndarray) and music.ndim == 3:
            music = list(music)
        if _is_one(music) or not isinstance(music, Sequence):
            return self.song(music, sample_rate=sample_rate).embedding
        pieces = cast(Sequence[Music], music)
        if len(pieces) == 0:
            return torch.empty(0, self.dimensions)
        with progress("embed", len(pieces), "songs", shown=len(pieces) > 1) as bar:
            found = []
            names = [f"number {place}" for place in range(len(pieces))]
            for song in self._embedded(pieces, names, self.reader, sample_rate):
                found.append(song.embedding)
                bar.advance()
        return torch.stack(found)

    def song(
        self, music: Music, name: str = "music", *, sample_rate: int = SAMPLE_RATE, measure: bool = False
    ) -> EmbeddedSong:
        """All that is known of one piece of music. name: what an array is called. measure: the whole song's loudness
        too, which takes reading all of it. Raises as `embed` does."""
        check_rate(sample_rate)
        return next(self._embedded([music], [name], self._measuring if measure else self.reader, sample_rate))

    def songs(self, paths: Sequence[Path], workers: int) -> Iterator[EmbeddedSong | UnreadableMusic]:
        """Each song's embedding, in order, or why it has none; decoded ahead in other processes."""
        for found in self.reader.read(paths, workers):
            if isinstance(found, UnreadableMusic):
                yield found
                continue
            try:
                yield self.encode(found)
            except MixstyleError as error:
                yield UnreadableMusic(str(error).removeprefix(f"{found.name}: "))

    @torch.inference_mode()
    def encode(self, clips: SongClips) -> EmbeddedSong:
        """Describes and encodes clips.

        Raises MixstyleError for clips too short for the encoder, and where descriptors or embedding are not finite
        (not-finite).
        """
        try:
            descriptors, found = self._described(torch.stack(clips.stems).to(self.device))
        except MixstyleError as error:
            raise MixstyleError(f"{clips.name}: {error.message}", code=error.code, remedy=error.remedy) from error
        _check_finite(clips.name, "its descriptors hold", descriptors)
        _check_finite(clips.name, "its embedding holds", found)
        embedding, each = song_embedding(found.cpu())
        starts_s = tuple(start / SAMPLE_RATE for start in clips.starts)
        return EmbeddedSong(
            clips.name,
            clips.duration_s,
            embedding,
            each,
            descriptors.cpu(),
            starts_s,
            clips.loudness,
            clips.note,
            clips.clip_s,
            clips.given,
            self.rules.values,
        )

    def _described(self, stems: Tensor) -> tuple[Tensor, Tensor]:
        """Descriptors [n, D] and embeddings [n, E] of clips' stems.

        On a CPU each clip by one thread: sums that several threads share have other last bits, and the last songs of a
        queue have more threads than those before them.
        """

        @torch.inference_mode()
        def each(stems: Tensor) -> tuple[Tensor, Tensor]:
            descriptors = describe(stems)
            encoder, mel = self.encoder.encoder, self.encoder.mel
            return descriptors, embed_clips(encoder, mel, stems, descriptors, describe=describe)

        if stems.device.type != "cpu":
            return each(stems)
        with ThreadPoolExecutor(torch.get_num_threads(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
            descriptors, found = zip(*pool.map(each, stems.split(1)), strict=True)
        return torch.cat(descriptors), torch.cat(found)

    def close(self) -> None:
        """Ends the process that decodes; another is started when one is needed."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def __enter__(self) -> "Embedder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def match(
        self,
        mine: Music,
        reference: Music | Sequence[Music],
        *,
        amount: float = 1.0,
        keep: Collection[str] = (),
        search: bool = False,
        sample_rate: int = SAMPLE_RATE,
    ) -> SongMatch:
        """What to set on each stem of one song so that it sounds like another (or the mean of several in a list).

        Its `chain` has it as values and text, `write("matched.wav")` writes the song. amount: 0 to 1, of each change.
        keep: stems that stay as they are. search: looks for compression, saturation, limiting and reverb too, which
        takes some minutes. Raises MixstyleError as `embed` does, and (bad-option) for other values.
        """
        check_rate(sample_rate)
        check_asked(amount, keep)
        references = [reference] if _is_one(reference) else list(cast(Sequence[Music], reference))
        pieces: list[Music] = [mine, *references]
        names = ["mine", *(f"reference {number}" for number in range(1, len(pieces)))]
        clips = list(self._read(pieces, names, self._measuring, sample_rate))
        if isinstance(mine, str | Path):
            song = WholeSong(Path(mine))
        elif isinstance(mine, Mapping):
            song = WholeSong(as_stems(mine, sample_rate, "mine"), "mine")
        else:
            song = WholeSong(as_mixture(mine, sample_rate, "mine"), "mine")
        metric = metric_of(self.encoder) if search else None
        return make_match(song, clips[0], clips[1:], self.separator, self.options, amount, keep, metric)

    def _embedded(
        self, pieces: Sequence[Music], names: Sequence[str], reader: SongReader, sample_rate: int
    ) -> Iterator[EmbeddedSong]:
        yield from map(self.encode, self._read(pieces, names, reader, sample_rate))

    def _read(
        self, pieces: Sequence[Music], names: Sequence[str], reader: SongReader, sample_rate: int
    ) -> Iterator[SongClips]:
        told = [
            str(Path(piece)) if isinstance(piece, str | Path) else name
            for piece, name in zip(pieces, names, strict=True)
        ]
        decoded = (self._decoded(piece, name, reader, sample_rate) for piece, name in zip(pieces, told, strict=True))
        for name, found in zip(told, reader.separate(decoded, len(pieces)), strict=True):
            if isinstance(found, UnreadableMusic):
                raise MixstyleError(f"{name}: {found}", code="no-music")
            yield found

    def _decoded(self, music: Music, name: str, reader: SongReader, sample_rate: int) -> Decoded:
        """One piece of music before separation. Raises MixstyleError for what is no music at all."""
        try:
            if isinstance(music, str | Path):
                self._decoder = self._decoder or Decoder()
                return reader.decode(self._decoder, Path(music))
            if isinstance(music, Mapping):
                return reader.decode_audio(as_stems(music, sample_rate, name), name)
            if not isinstance(music, Tensor | np.ndarray):
                raise MixstyleError(
                    f"{name}: should be a path, an array, a tensor or stems by name, not {type(music).__name__}",
                    code="bad-audio",
                )
            return reader.decode_audio(as_mixture(music, sample_rate, name), name)
        except UnreadableMusic as error:
            return error


_AS_COMMANDS = {"clip_s": 10.0, "clips_per_track": 4, "precision": "fp32"}
"""What commands about songs take without options."""


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
    loaded here. clip_s, clips_per_track: how much of a song is looked at. Warns (UserWarning) where the encoder was
    trained on another separator's stems. Raises MixstyleError for files that are missing or wrong, and for values that
    the settings of those names would not take.
    """
    options = build(SeparateSettings, "separate", {"clip_s": clip_s, "clips_per_track": clips_per_track})
    on = resolve_device(device)
    words = [] if checkpoint is None else ["--encoder", str(checkpoint)]
    changed: dict[str, object] = {"clip_s": clip_s, "clips_per_track": clips_per_track, "precision": precision}
    if not isinstance(separator, Separator):
        config, weights = separator or (shipped(SEPARATOR_CONFIG), shipped(SEPARATOR))
        changed |= {"separator_config": config, "separator_checkpoint": weights} if separator else {}
        separator = load_separator(config, weights, on, precision)
    for name, value in changed.items():
        if value != _AS_COMMANDS.get(name):
            words += ["--set", f"separate.{name}={value}"]
    encoder = load_encoder(shipped_encoder() if checkpoint is None else checkpoint, on)
    if told := other_separator(encoder, separator):
        warnings.warn(told.removeprefix("warning: "), stacklevel=2)
    return Embedder(encoder, separator, options, on, words=words)


def _check_finite(name: str, what: str, values: Tensor) -> None:
    if not torch.isfinite(values).all():
        raise MixstyleError(f"{name}: not finite: {what} NaN or infinite values", code="not-finite")


def _is_one(music: Music | Sequence[Music]) -> TypeGuard[Music]:
    return isinstance(music, str | Path | Tensor | np.ndarray | Mapping)
