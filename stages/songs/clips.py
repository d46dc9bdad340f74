"""Songs to the stems of their clips: what describe, compare, embed, index, search and browse look at.

A song is cut as `mixstyle separate` cuts (`mixstyle.stages.separate.cutting`), silent clips are left out, and one
without room for two clips is taken whole. The chunks of several songs go through the separator in one queue, in its
tuned batches and streams. Stems that `separate` has cached of the same file are taken from there.
"""

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.decode_pool import DecodedWindows, DecodePool, Decoder
from mixstyle.cache.music.reader import UnreadableMusic, WindowAudio
from mixstyle.cache.music.stem_folders import stem_files
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.mono import FILE_DB, is_mono
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness, measure_song
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import ChunkQueue
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import tell
from mixstyle.stages.separate.cutting import ClipRules, CutSong, cut, cut_files, cutting_rule, separated_span
from mixstyle.stages.separate.tuned_streams import choose_streams, start_streams
from mixstyle.stages.settings.separate import SeparateSettings
from mixstyle.stages.songs.cached_stems import CachedStems

MANY_SONGS = 20
"""From so many on, batch and streams are measured where that was not done before; a GPU is always worth it."""


@dataclass(frozen=True)
class DecodedSong:
    """A song before separation. requests: its clips. stems: of the clips, where there is nothing to separate.

    given: whether the stems were given, not separated. loudness: of all of the song, where it was measured. note: what
    the file holds less than its header says, or empty. mono: whether its clips were so before they were separated.
    """

    name: str
    duration_s: float
    starts: tuple[int, ...]
    requests: tuple[ClipRequest, ...]
    stems: tuple[Tensor, ...] = ()
    given: bool = False
    loudness: SongLoudness | None = None
    note: str = ""
    mono: bool = False

    def only(self, place: int) -> "DecodedSong":
        """The song with one of its clips."""
        one = slice(place, place + 1)
        return replace(self, starts=self.starts[one], requests=self.requests[one], stems=self.stems[one])


@dataclass(frozen=True)
class SongClips:
    """Clips of a song as stems, n tensors [4, 2, T] alike; starts: their first frames at 44.1 kHz.

    given: whether the stems were given, not separated. loudness: of all of the song, where it was measured. note: what
    the file holds less than its header says, or empty. mono: whether its clips were so before they were separated.
    """

    name: str
    duration_s: float
    starts: tuple[int, ...]
    stems: tuple[Tensor, ...]
    given: bool
    loudness: SongLoudness | None = None
    note: str = ""
    mono: bool = False

    @property
    def clip_s(self) -> float:
        return self.stems[0].shape[-1] / SAMPLE_RATE


Decoded = DecodedSong | UnreadableMusic
Read = SongClips | UnreadableMusic


class SongReader:
    """Reads songs by the settings of `separate`.

    separator: None where stems are given. measure: the loudness of whole songs too. cached: stems that are there.
    """

    def __init__(
        self,
        options: SeparateSettings,
        separator: Separator | None,
        *,
        cutting_version: int = CUTTING_VERSION,
        measure: bool = False,
        cached: CachedStems | None = None,
    ) -> None:
        self.options, self.separator, self.cached = options, separator, cached
        self.cutting = cutting_rule(options, cutting_version)
        self._mixtures = self._rules(separator, measure)
        self._stems = self._rules(None, measure)

    def read(self, songs: Sequence[Path], workers: int) -> Iterator[Read]:
        """Songs (files, or folders of stems) in their order, or why one cannot be used; decoded ahead in processes."""

        def decode(decoder: Decoder, song: Path) -> Decoded:
            try:
                return self.decode(decoder, song)
            except UnreadableMusic as error:
                return error
            except MixstyleError as error:
                return UnreadableMusic(str(error).removeprefix(f"{song}: "))

        with DecodePool(workers) as pool:
            yield from self.separate(pool.map(decode, songs), len(songs))

    def decode(self, decoder: Decoder, path: Path, name: str = "") -> DecodedSong:
        """A file or a folder of stems, cut. Raises UnreadableMusic with the reason, MixstyleError for neither."""
        name = name or path.name
        if path.is_dir():
            _, found = cut_files(decoder, given_stems(path), path.name, self._stems)
            return _decoded(name, found, given=True)
        if not path.exists():  # what is there and no file is told by what reads it
            raise not_there(path)
        known = self._known(decoder, path, name)
        if known is not None:
            return known
        _, found = cut_files(decoder, {"": path}, path.name, self._mixtures)
        return _decoded(name, found, given=False)

    def decode_audio(self, audio: Tensor, name: str) -> DecodedSong:
        """A mixture [2, T] at 44.1 kHz, or stems [4, 2, T], cut. Raises UnreadableMusic with the reason."""
        samples = audio.detach().to("cpu", torch.float32).numpy()
        rules = self._stems if audio.ndim == 3 else self._mixtures

        def read(windows: Sequence[tuple[int, int]]) -> DecodedWindows:
            mix = samples.sum(0) if samples.ndim == 3 else samples
            loudness = measure_song(mix, SAMPLE_RATE) if rules.measure else None
            parts = [WindowAudio(np.ascontiguousarray(samples[..., a:b]), b - a) for a, b in windows]
            return DecodedWindows(parts, "", loudness)

        return _decoded(name, cut(samples.shape[-1], name, rules, read), given=audio.ndim == 3)

    def separate(self, songs: Iterable[Decoded], count: int = 1) -> Iterator[Read]:
        """Decoded songs with their stems, in their order; what cannot be used is passed on. count: how many songs."""
        if self.separator is None:
            yield from (song if isinstance(song, UnreadableMusic) else _with_stems(song, ()) for song in songs)
            return
        device = self.separator.device
        measure = device.type != "cpu" or count >= MANY_SONGS
        streams = choose_streams(self.options, self.separator, device, measure)
        waiting: dict[object, Decoded] = {}

        def told(key: Hashable, share: float) -> None:
            place = cast(int, key)
            tell("clips", (place + share) / max(count, place + 1))

        def groups() -> Iterator[tuple[int, Sequence[ClipRequest]]]:
            for place, song in enumerate(songs):
                waiting[place] = song
                told(place, 0.0)
                yield place, () if isinstance(song, UnreadableMusic) or song.stems else song.requests

        with start_streams(self.separator, streams) as executor:
            # what is made of the last songs may use all threads: the streams have ended by then
            for group in ChunkQueue(executor, told=told).separated(groups(), drained=executor.close):
                song = waiting.pop(group.key)
                yield song if isinstance(song, UnreadableMusic) else _with_stems(song, group.stems)

    def _rules(self, separator: Separator | None, measure: bool) -> ClipRules:
        return ClipRules(
            self.cutting,
            self.options.silence_lufs,
            separated_span(separator),
            least_clips=1,
            whole_if_short=True,
            measure=measure,
        )

    def _known(self, decoder: Decoder, path: Path, name: str) -> DecodedSong | None:
        """A song whose stems are cached, if that holds the same audio."""
        track = self.cached.find(path) if self.cached is not None else None
        if self.cached is None or track is None:
            return None
        loudness = self.cached.loudness(track)
        decoded = decoder.read({"": path}, [], self._mixtures.measure and loudness is None)
        found = self.cached.read(track, decoded.content_hash)
        if found is None:
            return None
        starts, stems, duration_s = found
        if decoded.length is not None:  # separate of earlier versions keeps what the header says
            duration_s = min(duration_s, decoded.length.duration_s)
        return DecodedSong(
            name, duration_s, starts, (), stems, loudness=loudness or decoded.loudness, note=decoded.note
        )


def given_stems(folder: Path) -> dict[str, Path]:
    """The files of a folder of stems. Raises MixstyleError where it is none."""
    if folder.is_file():
        raise MixstyleError(f"{folder}: is a file, not a folder of stems", code="not-found")
    if not folder.is_dir():
        raise not_there(folder, "folder")
    try:
        return stem_files(folder.parent, folder.name)
    except UnreadableMusic as error:
        raise MixstyleError(f"{folder}: {error}", code="no-music") from error


def _decoded(name: str, found: CutSong, given: bool) -> DecodedSong:
    if found.reason:
        raise UnreadableMusic(found.reason)
    requests = tuple(found.usable.values())
    stems = tuple(request.clip.clone() for request in requests) if given else ()
    starts = tuple(request.start for request in requests)
    mono = not given and _is_mono([request.clip for request in requests])
    return DecodedSong(name, found.duration_s, starts, requests, stems, given, found.loudness, found.note, mono)


def _is_mono(clips: Sequence[Tensor]) -> bool:
    """Of mixes [2, T]. What a separator makes of a mono song is not quite mono."""
    mid, side = (sum(float((c[0] + sign * c[1]).double().square().sum()) for c in clips) for sign in (1, -1))
    return is_mono(mid, side, FILE_DB)


def _with_stems(song: DecodedSong, stems: Sequence[Tensor]) -> Read:
    found = song.stems or tuple(stems)
    if not found:
        raise ValueError("a mixture needs a separator")
    if not all(torch.isfinite(clip).all() for clip in found):
        return UnreadableMusic("separator failed: its output holds NaN or infinite samples")
    return SongClips(song.name, song.duration_s, song.starts, found, song.given, song.loudness, song.note, song.mono)
