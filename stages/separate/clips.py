"""One track on its way through `mixstyle separate`: decoded in a worker process, separated, encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.music.decode_pool import Decoder
from mixstyle.cache.music.listing import track_files
from mixstyle.cache.music.reader import MusicInfo, UnreadableMusic, frames_at_44100
from mixstyle.cache.music.stem_folders import stem_files
from mixstyle.cache.stem_store.manifest import PlannedTrack, clips_of
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.loudness import LOUDNESS_FLOOR_LUFS, integrated_loudness
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.settings.separate import SeparateSettings

SHORTEST_CLIP_S = 0.4
"""A block of ITU-R BS.1770."""
LEAST_CLIPS = 2
"""A track with fewer usable clips is of no use: an anchor needs another clip of its song."""


@dataclass(frozen=True)
class ClipRules:
    """What a track's clips follow from. Lengths are in frames at 44.1 kHz.

    span: (track_frames, start, stop) -> the frames of the track that separating this clip needs.
    """

    root: Path
    kind: Literal["mixtures", "stems"]
    clip_frames: int
    clips_per_track: int
    seed: int
    silence_lufs: float
    span: Callable[[int, int, int], tuple[int, int]]


def rules_of(chosen: SeparateSettings, root: Path, separator: Separator | None) -> ClipRules:
    """The rules that the settings and the separator's chunks make. Raises MixstyleError for clips too short."""
    if chosen.clip_s < SHORTEST_CLIP_S:
        raise MixstyleError(
            f"separate.clip_s={chosen.clip_s:g}: should be {SHORTEST_CLIP_S} s or more", code="bad-setting"
        )
    clip_frames = round(chosen.clip_s * SAMPLE_RATE)
    span = separator.clip_span if separator else (lambda track_frames, start, stop: (start, stop))
    return ClipRules(root, chosen.input, clip_frames, chosen.clips_per_track, chosen.seed, chosen.silence_lufs, span)


@dataclass(frozen=True)
class UsableClip:
    """A clip to separate. start: at 44.1 kHz. audio: the track from `span_start` on, [2, n]; of stems [4, 2, n]."""

    slot: int
    start: int
    span_start: int
    audio: np.ndarray

    def cut(self, clip_frames: int) -> np.ndarray:
        """The clip alone."""
        begin = self.start - self.span_start
        return self.audio[..., begin : begin + clip_frames]


@dataclass(frozen=True)
class DecodedTrack:
    """A track before separation.

    reason: why all of it failed, or empty. starts: start frame of each slot, None where there is no room. failed: why
    a slot's clip failed. source: what the track's JSON will say of the file.
    """

    track: PlannedTrack
    starts: list[int | None]
    clip_frames: int
    track_frames: int = 0
    reason: str = ""
    failed: dict[int, str] = field(default_factory=dict)
    usable: list[UsableClip] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)


def files_of(rules: ClipRules, track: PlannedTrack) -> dict[str, Path]:
    """A track's file, or its four stems. Raises UnreadableMusic for stems that are missing."""
    if rules.kind == "stems":
        return stem_files(rules.root, track.path)
    return track_files(rules.root, track.path, "mixtures")


def decode_track(decoder: Decoder, track: PlannedTrack, rules: ClipRules) -> DecodedTrack:
    """Decodes the seconds that a track's clips need. A track that cannot be used comes back with its reason."""
    starts: list[int | None] = [None] * rules.clips_per_track
    try:
        files = files_of(rules, track)
        info = decoder.probe(files)
        frames = frames_at_44100(info)
        starts = clips_of(frames, track.path, rules.clip_frames, rules.clips_per_track, rules.seed)
        clips = [(start, start + rules.clip_frames) for start in starts if start is not None]
        if len(clips) < LEAST_CLIPS:
            needed_s = LEAST_CLIPS * rules.clip_frames / SAMPLE_RATE
            raise UnreadableMusic(f"too short: {info.duration_s:.1f} s long, {needed_s:g} s are needed")
        windows = merged([rules.span(frames, start, stop) for start, stop in clips])
        decoded = decoder.read(files, windows)
    except UnreadableMusic as error:
        return DecodedTrack(track, starts, rules.clip_frames, reason=str(error))
    # clips that have room come first, so a slot is also a clip's place among them
    failed = {slot: f"no room: the track holds {len(clips)} clips" for slot in range(len(clips), len(starts))}
    usable = []
    for slot, (start, stop) in enumerate(clips):
        place = next(i for i, (first, last) in enumerate(windows) if first <= start and stop <= last)
        clip = UsableClip(slot, start, windows[place][0], decoded.audio[place])
        if is_silent(clip.cut(rules.clip_frames), rules.silence_lufs):
            failed[slot] = f"silent: the mix is below {rules.silence_lufs:g} LUFS"
        else:
            usable.append(clip)
    reason = ""
    if len(usable) < LEAST_CLIPS:
        where = "all but one of its clips" if usable else "all of its clips"
        reason = f"silent: the mix is below {rules.silence_lufs:g} LUFS in {where}"
    source = _source(track, info, decoded.content_hash)
    return DecodedTrack(track, starts, rules.clip_frames, frames, reason, failed, usable, source)


def requests_of(decoded: DecodedTrack) -> list[ClipRequest]:
    """A decoded track's usable clips as the separator takes them; none for a track that failed."""
    if decoded.reason:
        return []
    audio = {id(clip.audio): torch.from_numpy(clip.audio) for clip in decoded.usable}  # clips may share a window
    return [
        ClipRequest(
            decoded.track_frames,
            clip.start,
            clip.start + decoded.clip_frames,
            clip.span_start,
            audio[id(clip.audio)],
        )
        for clip in decoded.usable
    ]


def encode_track(
    decoded: DecodedTrack, stems: Sequence[Tensor] | None, separator: str, batch_chunks: tuple[int, ...] = ()
) -> TrackRecord:
    """A track's clips, encoded. stems: [4, 2, clip_frames] of each usable clip; None where its audio is stems already.

    separator: its fingerprint. batch_chunks: how many chunks went together where memory did not suffice for a batch.
    """
    failed, encoded = dict(decoded.failed), {}
    if not decoded.reason:
        cut = [clip.cut(decoded.clip_frames) for clip in decoded.usable] if stems is None else stems
        for clip, audio in zip(decoded.usable, map(np.asarray, cut), strict=True):
            if np.isfinite(audio).all():
                encoded[clip.slot] = encode_clip(audio)
            else:
                failed[clip.slot] = "separator failed: its output holds NaN or infinite samples"
    reason = decoded.reason
    if not reason and len(encoded) < LEAST_CLIPS:
        reason = next(failed[clip.slot] for clip in decoded.usable if clip.slot in failed)
    records = []
    for slot, start in enumerate(decoded.starts):
        flac, scale = encoded.get(slot, (b"", 1.0))
        why = "" if slot in encoded else failed.get(slot, reason)
        clip_id = f"{decoded.track.track_id}_{slot}"
        records.append(ClipRecord(clip_id, slot, start, scale, flac, why))
    track = decoded.track
    source = {**decoded.source, "separator": separator}
    return TrackRecord(track.track_id, track.path, track.split, tuple(records), reason, source, batch_chunks)


def merged(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
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


def _source(track: PlannedTrack, info: MusicInfo, content_hash: str) -> dict[str, Any]:
    return {
        "group": track.group,
        "licence": info.licence or track.licence,
        "source_rate": info.rate,
        "source_channels": info.channels,
        "source_frames": info.frames,
        "source_format": info.format,
        "duration_s": round(info.duration_s, 6),
        "content_hash": content_hash,
    }
