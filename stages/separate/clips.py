"""One track on its way through `mixstyle separate`: decoded in a worker process, separated, encoded."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.decode_pool import DecodePool, Decoder
from mixstyle.cache.music.listing import track_files
from mixstyle.cache.music.reader import MusicInfo, UnreadableMusic
from mixstyle.cache.music.remote_music import on_this_machine
from mixstyle.cache.music.stem_folders import stem_files
from mixstyle.cache.stem_store.manifest import ListedTrack
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.separate.cutting import LEAST_CLIPS, ClipRules, CutSong, cut_files, cutting_rule, separated_span
from mixstyle.stages.settings.separate import SeparateSettings


@dataclass(frozen=True)
class TrackRules:
    """Where a run's tracks are, and how they are cut."""

    root: Path
    kind: Literal["mixtures", "stems"]
    clips: ClipRules


def rules_of(
    chosen: SeparateSettings, root: Path, separator: Separator | None, cutting_version: int = CUTTING_VERSION
) -> TrackRules:
    """The rules that the settings and the separator's chunks make. Raises MixstyleError for clips too short."""
    cutting, span = cutting_rule(chosen, cutting_version), separated_span(separator)
    clips = ClipRules(cutting, chosen.silence_lufs, span, measure=chosen.measure_songs)
    return TrackRules(root, chosen.input, clips)


@dataclass(frozen=True)
class DecodedTrack:
    """A track before separation. source: what the track's JSON will say of the file."""

    track: ListedTrack
    cut: CutSong
    source: dict[str, Any] = field(default_factory=dict)
    separator: int = 0

    @property
    def requests(self) -> list[ClipRequest]:
        """The usable clips as the separator takes them; none of a track that failed."""
        return [] if self.cut.reason else list(self.cut.usable.values())

    def encoded(
        self, stems: Sequence[Tensor] | None, separator: str, batch_chunks: tuple[int, ...] = ()
    ) -> TrackRecord:
        """The clips, encoded. stems: [4, 2, clip_frames] of each usable clip; None where its audio is stems already.

        separator: its fingerprint. batch_chunks: how many chunks went together where memory did not suffice for a
        batch.
        """
        cut, failed, encoded = self.cut, dict(self.cut.failed), {}
        if not cut.reason:
            clips = [request.clip for request in cut.usable.values()] if stems is None else stems
            for slot, audio in zip(cut.usable, map(np.asarray, clips), strict=True):
                if np.isfinite(audio).all():
                    encoded[slot] = encode_clip(audio)
                else:
                    failed[slot] = "separator failed: its output holds NaN or infinite samples"
        reason = cut.reason
        if not reason and len(encoded) < LEAST_CLIPS:
            reason = next(failed[slot] for slot in cut.usable if slot in failed)
        records = []
        for slot, start in enumerate(cut.starts):
            flac, scale = encoded.get(slot, (b"", 1.0))
            why = "" if slot in encoded else failed.get(slot, reason)
            clip_id = f"{self.track.track_id}_{slot}"
            records.append(ClipRecord(clip_id, slot, start, scale, flac, why))
        track = self.track
        source = {**self.source, "separator": separator}
        return TrackRecord(track.track_id, track.path, track.split, tuple(records), reason, source, batch_chunks)


class Decoding:
    """`pipeline.Preparation` of a manifest's tracks: worker processes decode them ahead."""

    def __init__(self, rules: TrackRules, workers: int) -> None:
        self._rules, self._pool = rules, DecodePool(workers)

    def ready(self, tracks: Iterable[tuple[int, ListedTrack]]) -> Iterator[tuple[int, DecodedTrack]]:
        """Tracks as they are decoded, in order."""

        def decode(decoder: Decoder, item: tuple[int, ListedTrack]) -> tuple[int, DecodedTrack]:
            number, track = item
            return number, decode_track(decoder, track, self._rules)

        return self._pool.map(decode, tracks)

    def close(self) -> None:
        """Ends the processes."""
        self._pool.close()


def files_of(rules: TrackRules, track: ListedTrack) -> dict[str, Path]:
    """A track's file, or its four stems. Raises UnreadableMusic for stems that are missing."""
    if rules.kind == "stems":
        return stem_files(rules.root, track.path)
    return track_files(rules.root, track.path, "mixtures")


def decode_track(decoder: Decoder, track: ListedTrack, rules: TrackRules) -> DecodedTrack:
    """Decodes the seconds that a track's clips need. A track that cannot be used comes back with its reason."""
    try:
        with on_this_machine(files_of(rules, track)) as files:
            info, cut = cut_files(decoder, files, track.path, rules.clips)
    except UnreadableMusic as error:
        cutting = rules.clips.cutting
        return DecodedTrack(track, CutSong(0, cutting.clip_frames, [None] * cutting.clips, reason=str(error)))
    return DecodedTrack(track, cut, _source(track, info, cut) if cut.content_hash else {})


def _source(track: ListedTrack, info: MusicInfo, cut: CutSong) -> dict[str, Any]:
    length = cut.length or info  # the header may tell of more than there is
    return {
        "group": track.group,
        "licence": info.licence or track.licence,
        "source_rate": length.rate,
        "source_channels": info.channels,
        "source_frames": length.frames,
        "source_format": info.format,
        "duration_s": round(length.duration_s, 6),
        "content_hash": cut.content_hash,
        **({"note": cut.note} if cut.note else {}),
        **(cut.loudness.to_json() if cut.loudness else {}),
    }
