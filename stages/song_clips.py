"""A song's stems, a few clips of it: what `describe`, `embed` and `index` look at.

A song is cut by the rule that cut the cached ones (its first seconds, its last, and seeded ones between), and silent
clips are left out. A song without room for two clips is taken whole.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.decode_pool import Decoder
from mixstyle.cache.music import UnreadableMusic, frames_at_44100
from mixstyle.cache.plan import clips_of
from mixstyle.cache.stem_folders import stem_files
from mixstyle.pipeline.chunks import ClipRequest
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.separator import Separator
from mixstyle.pipeline.stems import SAMPLE_RATE
from mixstyle.stages.separate_tracks import LEAST_CLIPS, SHORTEST_CLIP_S, is_silent, merged
from mixstyle.stages.settings import SeparateSettings

Windows = Sequence[tuple[int, int]]
"""Half-open, in frames at 44.1 kHz."""
Files = dict[str, Path]
"""`{"": file}`, or a song's stems by name."""


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


def clips_of_files(
    chosen: SeparateSettings, files: Files, name: str, separator: Separator | None, decoder: Decoder
) -> SongClips:
    """Clips of a file, separated; without a separator of a song's four stems. Raises UnreadableMusic with the reason.

    name: what the clips between the first and the last are seeded by.
    """
    frames = frames_at_44100(decoder.probe(files))
    return _clips(chosen, frames, name, separator, lambda windows: decoder.read(files, windows).audio)


def clips_of_audio(chosen: SeparateSettings, audio: Tensor, name: str, separator: Separator | None) -> SongClips:
    """Clips of a mixture [2, T] at 44.1 kHz, separated; without a separator of stems [4, 2, T]."""
    samples = audio.detach().to("cpu", torch.float32).numpy()
    return _clips(chosen, samples.shape[-1], name, separator, partial(_windows_of, samples))


def _windows_of(samples: np.ndarray, windows: Windows) -> list[np.ndarray]:
    return [samples[..., start:stop] for start, stop in windows]


def _clips(
    chosen: SeparateSettings,
    frames: int,
    name: str,
    separator: Separator | None,
    read: Callable[[Windows], list[np.ndarray]],
) -> SongClips:
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
    kept: list[int] = []
    requests: list[ClipRequest] = []
    for start, stop in clips:
        place = next(i for i, (first, last) in enumerate(windows) if first <= start and stop <= last)
        first = windows[place][0]
        if is_silent(audio[place][..., start - first : stop - first], chosen.silence_lufs):
            continue
        kept.append(start)
        requests.append(ClipRequest(frames, start, stop, first, torch.from_numpy(audio[place])))
    if not kept:
        raise UnreadableMusic(f"silent: below {chosen.silence_lufs:g} LUFS in all of its clips")
    if separator is not None:
        stems = tuple(separator.separate_clips(requests))
    else:
        stems = tuple(r.audio[..., r.start - r.span_start : r.stop - r.span_start].clone() for r in requests)
    return SongClips(name, frames / SAMPLE_RATE, tuple(kept), stems, given=separator is None)
