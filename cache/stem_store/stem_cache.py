"""Random access to cached stems: every clip of every shard by its place in the manifest, in constant time."""

import hashlib
import json
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.shards import ShardInfo, decode_clip, read_shard, shard_numbers, sidecar_path
from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.provenance import SETTINGS, Provenance, read_provenance
from mixstyle.pipeline.core.errors import ErrorCode, MixstyleError, one_line
from mixstyle.pipeline.core.stems import SAMPLE_RATE

RENAMED = {"threads_per_lane": "threads_per_stream"}
"""Names in it that were others: old -> new."""
BLOCK_BYTES = 4 << 20
"""What is read at once from front to back. Blocks begin at whole multiples: a cache of them finds them again."""


@dataclass(frozen=True, slots=True)
class CachedClip:
    """A clip that is there.

    row: manifest index of its track * clips_per_track + slot, its row in every table of clips. start_frame: in the
    track at 44.1 kHz. scale: what its samples are multiplied by. offset, size: its FLAC in the shard's tar, bytes.
    crc32: of the FLAC; None in shards of earlier versions.
    """

    clip_id: str
    row: int
    start_frame: int
    scale: float
    shard: int
    offset: int
    size: int
    crc32: int | None = None


@dataclass(frozen=True, slots=True)
class CachedTrack:
    """A track with at least one clip; clips are in the order of time.

    path: relative to the music folder. metadata: offset and size of its JSON in the tar, bytes; metadata_crc32: of it.
    """

    track_id: str
    path: str
    split: str
    index: int
    shard: int
    clips: tuple[CachedClip, ...]
    metadata: tuple[int, int]
    metadata_crc32: int | None = None


def _settings_of(path: Path) -> Provenance:
    """What shards were made with. Raises MixstyleError, with the command that writes damaged settings again."""
    try:
        return read_provenance(path, RENAMED)
    except MixstyleError as error:
        again = ("separate",) if error.code == "damaged-file" else error.remedy
        raise MixstyleError(error.message, code=error.code, remedy=again) from error


class StemCache:
    """What `mixstyle separate` (or `remix`, in a bank) has finished in a folder, as it was when this was opened.

    Reading uses no shared file position: any number of threads and forked processes may read from one instance.
    Raises MixstyleError for a folder without stems, and for shards that are cut short or were made with other
    settings, by name.
    """

    def __init__(self, stems_dir: Path | str) -> None:
        self.stems_dir = Path(stems_dir)
        self.name = str(stems_dir)
        """What people call it; `open_shards` opens it by this."""
        path = self.stems_dir / SETTINGS
        if not path.exists():
            raise MixstyleError(f"{self.stems_dir}: no stems here yet", code="step-missing", remedy=("separate",))
        self.provenance = _settings_of(path)
        self.settings: dict[str, Any] = self.provenance.flat
        """What `separate` stored: all that the shards follow from, and `tracks`, how many the manifest has."""
        try:
            self.clips_per_track: int = int(self.settings["clips_per_track"])
            self.tracks_per_shard: int = int(self.settings["tracks_per_shard"])
            self.clip_frames: int = round(self.settings["clip_s"] * SAMPLE_RATE)
            counts = (self.clips_per_track, self.tracks_per_shard, self.clip_frames, int(self.settings["tracks"]))
            if min(counts) < 1:
                raise ValueError("a number below 1")
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            again = (self.provenance.stage or "separate", "--rebuild")
            raise MixstyleError(
                f"{path}: damaged: it does not tell the sizes of clips and shards ({one_line(error)})",
                code="damaged-file",
                remedy=again,
            ) from error
        made_with = self.provenance.fingerprint
        self.shards: list[ShardInfo] = [self._shard(k, made_with) for k in shard_numbers(self.stems_dir)]
        """Finished shards, in order."""
        self.tracks: list[CachedTrack] = [track for shard in self.shards for track in self._tracks(shard)]
        """Tracks that have clips, in the order of the manifest."""
        self._tars = {shard.shard: shard.tar for shard in self.shards}
        self._sizes_of = {shard.shard: shard.size for shard in self.shards}

    def __repr__(self) -> str:
        return f"StemCache({self.name!r}, {len(self.tracks)} of {self.n_tracks} tracks)"

    @property
    def n_tracks(self) -> int:
        """Tracks of the manifest, failed ones among them."""
        return self.settings["tracks"]

    @property
    def n_shards(self) -> int:
        """Shards of the manifest."""
        return -(-self.n_tracks // self.tracks_per_shard)

    @property
    def n_rows(self) -> int:
        """Rows of a table with one row for each clip of the manifest, failed ones among them."""
        return self.n_tracks * self.clips_per_track

    @property
    def rows_per_shard(self) -> int:
        return self.tracks_per_shard * self.clips_per_track

    @property
    def complete(self) -> bool:
        """Whether every shard of the manifest is finished."""
        return len(self.shards) == self.n_shards

    @property
    def fingerprint(self) -> str:
        """16 hex digits of the settings and of every shard's content; another shard or another byte changes it."""
        content = [self.provenance.fingerprint, *([shard.shard, shard.sha256] for shard in self.shards)]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

    @property
    def unnamed(self) -> dict[str, int]:
        """Bytes of tars that no sidecar names, by name: what a run leaves behind a URL that is killed or under way."""
        return {}

    def tracks_with_pairs(self, split: str) -> list[CachedTrack]:
        """Tracks of a split that have two clips or more, in the order of the manifest."""
        return [track for track in self.tracks if track.split == split and len(track.clips) >= 2]

    def read_clip(self, clip: CachedClip, start: int = 0, frames: int = -1) -> np.ndarray:
        """Stems [4, 2, frames] float32 of a clip from its frame `start` on; `frames=-1` means to its end.

        Raises MixstyleError, naming shard and clip, for damaged data.
        """
        return self.decode(clip, self.read_bytes(clip.shard, clip.offset, clip.size), start, frames)

    def decode(self, clip: CachedClip, flac: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
        """As `read_clip`, of the clip's FLAC file that is given."""
        if clip.crc32 is not None and zlib.crc32(flac) != clip.crc32:
            raise self.damaged(clip.shard, f"clip {clip.clip_id} is not what was written")
        try:
            return decode_clip(flac, clip.scale, start, frames)
        except ValueError as error:
            raise self.damaged(clip.shard, f"clip {clip.clip_id} is {error}") from error

    def read_metadata(self, track: CachedTrack) -> dict[str, Any]:
        """The JSON of a track's sample, as described in `mixstyle.cache.stem_store.shards`."""
        data = self.read_bytes(track.shard, *track.metadata)
        if track.metadata_crc32 is not None and zlib.crc32(data) != track.metadata_crc32:
            raise self.damaged(track.shard, f"the JSON of track {track.track_id} is not what was written")
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self.damaged(track.shard, f"track {track.track_id} has no JSON") from error

    def verify(self) -> None:
        """Reads every shard and compares its length and SHA-256. Raises MixstyleError naming the first that differs."""
        for shard in self.shards:
            if shard.tar.stat().st_size != shard.size or sha256_file(shard.tar) != shard.sha256:
                raise self.damaged(shard.shard, "its bytes differ from those that were written")

    def read_bytes(self, shard: int, offset: int, size: int) -> bytes:
        """Bytes of a shard's tar; fewer where the tar ends before."""
        # opened again each time: microseconds, while thousands of shards held open would pass the system's limit
        handle = os.open(self._tars[shard], os.O_RDONLY)
        try:
            return os.pread(handle, size, offset)
        finally:
            os.close(handle)

    def drop(self, shard: int, offset: int, size: int) -> None:
        """Forgets what is kept elsewhere of these bytes of a shard, which are damaged; in a folder nothing is."""

    def tar_bytes(self, shard: int) -> int:
        """The length of a shard's tar, as its sidecar says."""
        return self._sizes_of[shard]

    def damaged(self, shard: int, what: str, code: ErrorCode = "damaged-file") -> MixstyleError:
        """The error for a shard that is not what its sidecar says, with what to do about it."""
        sidecar = sidecar_path(self.stems_dir, shard)
        message = f"{sidecar.with_suffix('.tar')}: {what}; delete {sidecar}, then"
        return MixstyleError(message, code=code, remedy=(self.provenance.stage or "separate",))

    def _shard(self, number: int, made_with: str) -> ShardInfo:
        try:
            shard = read_shard(self.stems_dir, number)
        except MixstyleError as error:
            again = (self.provenance.stage or "separate",) if error.code == "damaged-file" else ()
            raise MixstyleError(error.message, code=error.code, remedy=again) from error
        if shard is None:
            raise self.damaged(number, "is missing or cut short")
        if shard.fingerprint != made_with:
            raise self.damaged(number, "was made with other settings", "stale")
        return shard

    def _tracks(self, shard: ShardInfo) -> list[CachedTrack]:
        tracks = []
        for place, entry in enumerate(shard.tracks):
            if entry["status"] != "ok":
                continue
            index = shard.shard * self.tracks_per_shard + place
            clips = tuple(
                CachedClip(
                    clip["clip_id"],
                    index * self.clips_per_track + slot,
                    clip["start_frame"],
                    clip["scale"],
                    shard.shard,
                    *shard.members[f"{entry['track_id']}.c{slot}.flac"],
                    crc32=shard.crc32.get(f"{entry['track_id']}.c{slot}.flac"),
                )
                for slot, clip in enumerate(entry["clips"])
                if clip["status"] == "ok"
            )
            name = f"{entry['track_id']}.json"
            about = (entry["track_id"], entry["path"], entry["split"], index, shard.shard)
            tracks.append(CachedTrack(*about, clips, shard.members[name], shard.crc32.get(name)))
        return tracks
