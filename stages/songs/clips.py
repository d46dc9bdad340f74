"""A song's stems, a few clips of it: what `describe`, `embed` and `index` look at.

A song is cut by the rule that cut the cached ones (its first seconds, its last, and seeded ones between), and silent
clips are left out. A song without room for two clips is taken whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.reader import UnreadableMusic, frames_at_44100
from mixstyle.cache.music.stem_folders import stem_files
from mixstyle.cache.stem_store.manifest import clips_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.separate.clips import LEAST_CLIPS, SHORTEST_CLIP_S, is_silent, merged
from mixstyle.stages.settings.separate import SeparateSettings

Windows = Sequence[tuple[int, int]]
"""Half-open, in frames at 44.1 kHz."""
Files = dict[str, Path]
"""`{"": file}`, or a song's stems by name."""


@dataclass(frozen=True)
class CutSong:
    """Clips of a song as they were cut, and the audio around them that separating them needs.

    given: whether the requests hold stems already, [4, 2, T], and not mixtures [2, T].
    """

    name: str
    duration_s: float
    requests: tuple[ClipRequest, ...]
    given: bool


@dataclass(frozen=True)
class SongClips:
    """Clips of a song as stems, n tensors [4, 2, T] alike; starts: their first frames at 44.1 kHz.

    given: whether the stems were given, not separated.
    """

    name: str
    duration_s: float
    starts: tuple[int, ...]
    stems: tuple[Tensor, ...]
    given: bool

    @property
    def clip_s(self) -> float:
        return self.stems[0].shape[-1] / SAMPLE_RATE


def given_stems(folder: Path) -> Files:
    """The files of a folder of stems. Raises MixstyleError where it is none."""
    if not folder.is_dir():
        raise MixstyleError(f"{folder}: no such folder")
    try:
        return stem_files(folder.parent, folder.name)
    except UnreadableMusic as error:
        raise MixstyleError(f"{folder}: {error}") from error


def cut_files(
    chosen: SeparateSettings, files: Files, name: str, separator: Separator | None, decoder: Decoder
) -> CutSong:
    """Cuts a file, or without a separator a song's four stems. Raises UnreadableMusic with the reason.

    name: what the clips between the first and the last are seeded by.
    """
    frames = frames_at_44100(decoder.probe(files))
    return _cut(chosen, frames, name, separator, lambda windows: decoder.read(files, windows).audio)


def cut_audio(chosen: SeparateSettings, audio: Tensor, name: str, separator: Separator | None) -> CutSong:
    """Cuts a mixture [2, T] at 44.1 kHz, or without a separator stems [4, 2, T]. Raises UnreadableMusic."""
    samples = audio.detach().to("cpu", torch.float32).numpy()
    return _cut(chosen, samples.shape[-1], name, separator, lambda windows: [samples[..., a:b] for a, b in windows])


def stems_of(song: CutSong, separator: Separator | None) -> SongClips:
    """The stems of a song's clips, all separated together."""
    if song.given:
        stems = tuple(request.clip.clone() for request in song.requests)
    elif separator is None:
        raise ValueError("a mixture needs a separator")
    else:
        stems = tuple(separator.separate_clips(song.requests))
    return SongClips(song.name, song.duration_s, tuple(r.start for r in song.requests), stems, song.given)


def _cut(
    chosen: SeparateSettings,
    frames: int,
    name: str,
    separator: Separator | None,
    read: Callable[[Windows], list[np.ndarray]],
) -> CutSong:
    if frames < SHORTEST_CLIP_S * SAMPLE_RATE:
        raise UnreadableMusic(f"too short: {frames / SAMPLE_RATE:.2f} s long, {SHORTEST_CLIP_S} s are needed")
    length = round(chosen.clip_s * SAMPLE_RATE)
    if frames < LEAST_CLIPS * length:
        length = frames
    starts = clips_of(frames, name, length, chosen.clips_per_track if length < frames else 1, chosen.seed)
    clips = [(start, start + length) for start in starts if start is not None]
    span = separator.clip_span if separator else (lambda track_frames, start, stop: (start, stop))
    windows = merged([span(frames, start, stop) for start, stop in clips])
    audio = read(windows)
    requests: list[ClipRequest] = []
    for start, stop in clips:
        place = next(i for i, (first, last) in enumerate(windows) if first <= start and stop <= last)
        first = windows[place][0]
        if not is_silent(audio[place][..., start - first : stop - first], chosen.silence_lufs):
            requests.append(ClipRequest(frames, start, stop, first, torch.from_numpy(audio[place])))
    if not requests:
        raise UnreadableMusic(f"silent: below {chosen.silence_lufs:g} LUFS in all of its clips")
    return CutSong(name, frames / SAMPLE_RATE, tuple(requests), given=separator is None)
