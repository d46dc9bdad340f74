"""A song cut into clips: decoded where they are, silent ones left out, each with the audio that separating it needs.

`separate` cuts its tracks by this, and every command that looks at songs (describe, compare, embed, index, search and
browse); what differs between them is in `ClipRules`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from mixstyle.cache.music.clip_positions import CUTTING_VERSION, CuttingRule
from mixstyle.cache.music.decode_pool import DecodedWindows, Decoder
from mixstyle.cache.music.reader import Length, MusicInfo, UnreadableMusic, frames_at_44100
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.settings.separate import SeparateSettings

SHORTEST_CLIP_S = 0.4
"""A block of ITU-R BS.1770."""
LEAST_CLIPS = 2
"""A track with fewer usable clips is of no use to training: an anchor needs another clip of its song."""

Windows = Sequence[tuple[int, int]]
"""Half-open, in frames at 44.1 kHz."""
Files = Mapping[str, Path]
"""`{"": file}`, or a song's stems by name."""


@dataclass(frozen=True)
class ClipRules:
    """What a song's clips follow from.

    span: (frames of the song, start, stop) -> the frames that separating this clip needs. least_clips: with fewer
    usable ones a song is of no use. whole_if_short: take a song without room for two clips whole. measure: the loudness
    of all of the song.
    """

    cutting: CuttingRule
    silence_lufs: float
    span: Callable[[int, int, int], tuple[int, int]]
    least_clips: int = LEAST_CLIPS
    whole_if_short: bool = False
    measure: bool = False


@dataclass(frozen=True)
class CutSong:
    """A song's clips before separation; frames are at 44.1 kHz.

    starts: first frame of each slot, None where there is no room. usable: by slot; the audio of its request is [2, n],
    of stems [4, 2, n], and clips that are close together share it. failed: why a slot's clip cannot be used. reason:
    why the song cannot, or empty. loudness: of all of the song, where it was measured. note: what the file holds less
    than its header says, or empty. length: of the file as it can be decoded; None where it is no file.
    """

    frames: int
    clip_frames: int
    starts: list[int | None]
    usable: dict[int, ClipRequest] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)
    reason: str = ""
    content_hash: str = ""
    loudness: SongLoudness | None = None
    note: str = ""
    length: Length | None = None

    @property
    def duration_s(self) -> float:
        """Of what can be decoded."""
        frames = self.frames if self.length is None else min(self.frames, frames_at_44100(self.length))
        return frames / SAMPLE_RATE


def cutting_rule(chosen: SeparateSettings, version: int = CUTTING_VERSION) -> CuttingRule:
    """The settings' rule. Raises MixstyleError for clips too short to measure."""
    if chosen.clip_s < SHORTEST_CLIP_S:
        raise MixstyleError(
            f"separate.clip_s={chosen.clip_s:g}: should be {SHORTEST_CLIP_S} s or more", code="bad-setting"
        )
    return CuttingRule(round(chosen.clip_s * SAMPLE_RATE), chosen.clips_per_track, chosen.seed, version)


def separated_span(separator: Separator | None) -> Callable[[int, int, int], tuple[int, int]]:
    """`ClipRules.span`: the chunks of a separator's grid, or the clip alone where there is nothing to separate."""
    return separator.clip_span if separator else (lambda frames, start, stop: (start, stop))


def cut_files(decoder: Decoder, files: Files, path: str, rules: ClipRules) -> tuple[MusicInfo, CutSong]:
    """Cuts a file, or a song's four stems, and what its header says. Raises UnreadableMusic where that cannot be read.

    path: what version 1 of the rule seeds by.
    """
    info = decoder.probe(files)
    return info, cut(frames_at_44100(info), path, rules, lambda windows: decoder.read(files, windows, rules.measure))


def cut(frames: int, path: str, rules: ClipRules, read: Callable[[Windows], DecodedWindows]) -> CutSong:
    """Cuts a song of so many frames. A song that cannot be used comes back with its reason.

    read: gives the audio of windows, or raises UnreadableMusic. What the audio has less than it should costs the clips
    that touch it, and a song that is taken whole its end.
    """
    cutting, least = rules.cutting, rules.least_clips
    if rules.whole_if_short and frames < LEAST_CLIPS * cutting.clip_frames:
        cutting, least = replace(cutting, clip_frames=max(frames, 1), clips=1), 1
    starts = cutting.starts(frames, path)
    clips = [(start, start + cutting.clip_frames) for start in starts if start is not None]
    if len(clips) < least or frames < SHORTEST_CLIP_S * SAMPLE_RATE:
        needed_s = SHORTEST_CLIP_S if rules.whole_if_short else least * cutting.clip_frames / SAMPLE_RATE
        reason = f"too short: {frames / SAMPLE_RATE:.2f} s long, {needed_s:g} s are needed"
        return CutSong(frames, cutting.clip_frames, starts, reason=reason)
    windows = merged([rules.span(frames, start, stop) for start, stop in clips])
    try:
        decoded = read(windows)
    except UnreadableMusic as error:
        return CutSong(frames, cutting.clip_frames, starts, reason=str(error))
    audio = [torch.from_numpy(window.audio) for window in decoded.windows]
    if len(clips) == 1 and cutting.clip_frames == frames and decoded.windows[0].there < frames:
        clips = [(0, max(decoded.windows[0].there, 1))]
    # clips that have room come first, so a slot is also a clip's place among them
    failed = {slot: f"no room: the track holds {len(clips)} clips" for slot in range(len(clips), len(starts))}
    usable: dict[int, ClipRequest] = {}
    for slot, (start, stop) in enumerate(clips):
        place = next(i for i, (first, last) in enumerate(windows) if first <= start and stop <= last)
        request = ClipRequest(frames, start, stop, windows[place][0], audio[place])
        window = decoded.windows[place]
        if stop > windows[place][0] + window.there or stop - start < SHORTEST_CLIP_S * SAMPLE_RATE:
            failed[slot] = window.reason
        elif is_silent(request.clip.numpy(), rules.silence_lufs):
            failed[slot] = f"silent: the mix is below {rules.silence_lufs:g} LUFS"
        else:
            usable[slot] = request
    reason = ""
    if len(usable) < least:
        where = "all but one of its clips" if usable else "all of its clips"
        missing = [window.reason for window in decoded.windows if window.reason]
        reason = missing[0] if missing else f"silent: the mix is below {rules.silence_lufs:g} LUFS in {where}"
    return CutSong(
        frames,
        cutting.clip_frames,
        starts,
        usable,
        failed,
        reason,
        decoded.content_hash,
        decoded.loudness,
        decoded.note,
        decoded.length,
    )


def merged(spans: Windows) -> list[tuple[int, int]]:
    """Overlapping and touching spans (half-open) as one.

    >>> merged([(0, 10), (5, 12), (20, 30)])
    [(0, 12), (20, 30)]
    """
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def is_silent(audio: np.ndarray, silence_lufs: float) -> bool:
    """Whether a mix [2, T], or the sum of stems [4, 2, T], is below the loudness or passes no gate at all."""
    mix = audio if audio.ndim == 2 else audio.sum(0)
    lufs = float(integrated_loudness(torch.from_numpy(np.ascontiguousarray(mix)), SAMPLE_RATE))
    return lufs < silence_lufs or lufs <= LOUDNESS_FLOOR_LUFS
