"""Shards of stems on disk: WebDataset tars, each with a sidecar that says what is in it. Format version 1.

`stems-000000.tar` holds the tracks of one shard of the manifest, a sample a track:

- `<track_id>.c<slot>.flac`, one a clip: FLAC, 44.1 kHz, 16 bit, 8 channels (vocals L R, bass L R, drums L R, other
  L R). The stems are these samples times the clip's `scale`, which is above 1 only where a stem would have clipped.
- `<track_id>.json`: `version`, `track_id`, `path`, `split`, `group`, what is known of the source (`source_rate` in Hz,
  `source_channels`, `source_frames`, `source_format`, `duration_s`, `content_hash`, `licence`, and a `note` where the
  file holds less than its header says), `separator` (its fingerprint) and lists with an entry a clip: `clip_id`,
  `slot`, `start_frame` (at 44.1 kHz), `scale`, `file`.

The tar is written by `webdataset.TarWriter`. Its members are plain files with time 0, owner 0 and mode 644, so equal
content gives equal bytes (the same ones as Python's tarfile gave before). Tracks and clips that failed are not in it.
`stems-000000.json` is written after the tar and lists all of them: `version`, `shard`, `fingerprint` (of the settings
that made it), `sha256` and `bytes` of the tar, `samples`, `members` (`[name, offset, size]`), `crc32` (of each
member's bytes, in their order), `tracks` (`track_id`, `path`, `split`, `status`, `reason`, perhaps the `note`, and
`clips` with `clip_id`, `status`, `reason`, `start_frame`, `scale`) and `content_sha256`, its own checksum
(`mixstyle.cache.storage.atomic`). A track whose chunks did not fit into memory in the planned batches has
`batch_chunks`: the batch sizes that were used. `tries` is above 1 where a later run tried tracks again whose decoder
had crashed. `machine` is there if the shard was made on a machine of another kind than the folder was begun on: the
kind, in words. A shard is done when its sidecar is there and names the tar's length.
Sidecars of earlier versions have neither `crc32` nor `content_sha256`.

In an object store the tar is called `stems-000000.HASH.tar`, with the first 16 digits of its SHA-256; the sidecar is
the same. A folder that was copied from a store is read too.
"""

import hashlib
import io
import json
import math
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import soundfile

from mixstyle.cache.music.transient_failures import is_transient
from mixstyle.cache.storage.atomic import atomic_write, json_with_checksum, read_json, sha256_file, write_text
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.core.stems import CHANNELS, SAMPLE_RATE, STEMS

if TYPE_CHECKING:
    from webdataset.writer import TarWriter

VERSION = 1
FULL_SCALE = 32768
"""int16 steps from 0 to 1.0."""
_BLOCK_FRAMES = 4096


@dataclass(frozen=True, slots=True)
class ClipRecord:
    """A clip of the manifest as it came out.

    start_frame: at 44.1 kHz; None where the manifest has no place for the clip. flac: empty for a clip that failed, and
    `reason` says why.
    """

    clip_id: str
    slot: int
    start_frame: int | None
    scale: float = 1.0
    flac: bytes = b""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TrackRecord:
    """A track of the manifest as it came out.

    reason: why the track failed, empty for one that did not. source: what the sample's JSON says of the source.
    batch_chunks: the sizes of batches that were allowed, where memory did not suffice for the planned one.
    """

    track_id: str
    path: str
    split: str
    clips: tuple[ClipRecord, ...]
    reason: str = ""
    source: Mapping[str, Any] = field(default_factory=dict)
    batch_chunks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A finished shard. tracks: the entries of its sidecar. crc32: of members by name; empty where it is not known.
    tries: in how many runs it was made."""

    shard: int
    tar: Path
    fingerprint: str
    sha256: str
    size: int
    members: dict[str, tuple[int, int]]
    tracks: list[dict[str, Any]]
    crc32: dict[str, int] = field(default_factory=dict)
    tries: int = 1


def encode_clip(stems: np.ndarray) -> tuple[bytes, float]:
    """Stems [4, 2, T] as an 8-channel 16-bit FLAC at 44.1 kHz, and the scale that decoding multiplies by.

    Rounded to the nearest step without dither: equal stems give equal bytes. Raises ValueError for another shape and
    for samples that are not finite.
    """
    if stems.ndim != 3 or stems.shape[:2] != (len(STEMS), 2) or stems.shape[2] == 0:
        raise ValueError(f"stems to encode should be [4, 2, T], not {list(stems.shape)}")
    peak = float(np.abs(stems).max())
    if not math.isfinite(peak):
        raise ValueError("stems to encode hold NaN or infinite samples")
    scale = 1.0
    if peak * FULL_SCALE > FULL_SCALE - 1:
        # the next multiple of 1/1024: short in JSON, exact in binary
        scale = math.ceil(peak * FULL_SCALE / (FULL_SCALE - 1) * 1024) / 1024
    steps = np.rint(stems.reshape(len(CHANNELS), -1).T * (FULL_SCALE / scale))
    buffer = io.BytesIO()
    soundfile.write(buffer, steps.astype(np.int16), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue(), scale


def decode_clip(data: bytes, scale: float, start: int = 0, frames: int = -1) -> np.ndarray:
    """Stems [4, 2, frames] float32 from frame `start` on; `frames=-1` means to the end.

    Raises ValueError for data that is no clip, and for frames that it does not hold.
    """
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            if file.channels != len(CHANNELS) or file.samplerate != SAMPLE_RATE:
                raise ValueError(f"a clip of stems with {file.channels} channels at {file.samplerate} Hz")
            wanted = file.frames - start if frames < 0 else frames
            if start:
                file.seek(start)
            audio = file.read(wanted, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise ValueError(f"a clip of stems that cannot be decoded ({error})") from error
    if len(audio) != wanted:
        raise ValueError(f"a clip of stems that ends after {start + len(audio)} frames")
    stems = np.empty((len(CHANNELS), wanted), np.float32)
    for at in range(0, wanted, _BLOCK_FRAMES):  # blocks that stay in the cache: a third of the time of turning it whole
        np.multiply(audio[at : at + _BLOCK_FRAMES].T, np.float32(scale), out=stems[:, at : at + _BLOCK_FRAMES])
    return stems.reshape(len(STEMS), 2, -1)


def tar_path(stems_dir: Path, shard: int) -> Path:
    return stems_dir / f"stems-{shard:06d}.tar"


def sidecar_path(stems_dir: Path, shard: int) -> Path:
    return stems_dir / f"stems-{shard:06d}.json"


def write_shard(
    stems_dir: Path, shard: int, tracks: Iterable[TrackRecord], fingerprint: str, tries: int = 1, machine: str = ""
) -> ShardInfo:
    """Writes a shard from its tracks, in their order, as they come: the tar, then its sidecar, each all or nothing.

    tries: in how many runs it was made, this one among them; noted where tracks failed again that might not have.
    machine: its kind, where that is another than the folder's.

    The tar is read back and compared before it gets its name. Raises MixstyleError when what the disk gives back is
    not what was written; whatever `tracks` raises passes through and leaves no shard.
    """
    from webdataset.writer import TarWriter  # loads torch, which readers of shards do without

    tar = tar_path(stems_dir, shard)
    sidecar_path(stems_dir, shard).unlink(missing_ok=True)  # never a new tar beside an old sidecar
    described: list[dict[str, Any]] = []
    members: dict[str, tuple[int, int]] = {}
    crc32: dict[str, int] = {}
    with atomic_write(tar) as temporary:
        with temporary.open("wb") as file:
            stream = _Hashing(file)
            with TarWriter(cast(BinaryIO, stream), user="", group="", mode=0o644, mtime=0, encoder=False) as archive:
                for track in tracks:
                    for name, data in _members(track):
                        members[name] = (_add(archive, name, data), len(data))
                        crc32[name] = zlib.crc32(data)
                    described.append(_describe(track))
        digest, size = stream.digest.hexdigest(), stream.size
        if sha256_file(temporary) != digest:
            raise MixstyleError(
                f"{tar}: reading back gives other bytes than were written; check the disk", code="cannot-write"
            )
    content = {
        "version": VERSION,
        "shard": shard,
        "fingerprint": fingerprint,
        "sha256": digest,
        "bytes": size,
        "samples": sum(track["status"] == "ok" for track in described),
        "members": [[name, offset, length] for name, (offset, length) in members.items()],
        "crc32": list(crc32.values()),
        "tracks": described,
    }
    if tries > 1 and any(is_transient(track["reason"]) for track in described):
        content["tries"] = tries
    if machine:
        content["machine"] = machine
    _write_sidecar(stems_dir, shard, content)
    return ShardInfo(shard, tar, fingerprint, digest, size, members, described, crc32, tries)


def restamp_shard(stems_dir: Path, shard: int, fingerprint: str) -> None:
    """Gives a finished shard another fingerprint: where the settings changed in what its bytes do not depend on.

    Raises MixstyleError as `read_shard` does.
    """
    if read_shard(stems_dir, shard) is not None:
        content = read_json(sidecar_path(stems_dir, shard))
        if content["fingerprint"] != fingerprint:
            _write_sidecar(stems_dir, shard, {**content, "fingerprint": fingerprint})


def _write_sidecar(stems_dir: Path, shard: int, content: Mapping[str, Any]) -> None:
    write_text(sidecar_path(stems_dir, shard), json_with_checksum(content, separators=(",", ":")))


def all_made_with(stems_dir: Path, fingerprint: str) -> bool:
    """Whether there are shards, and the sidecars of all of them can be read and were written under this fingerprint."""
    try:
        found = [read_json(sidecar_path(stems_dir, number)).get("fingerprint") for number in shard_numbers(stems_dir)]
    except (MixstyleError, AttributeError):
        return False
    return bool(found) and set(found) == {fingerprint}


def hashed_name(shard: int, sha256: str) -> str:
    """A tar's name in an object store, where what has a name never changes: its hash is in it."""
    return tar_path(Path(), shard).with_suffix(f".{sha256[:16]}.tar").name


def read_shard(stems_dir: Path, shard: int, sizes: Mapping[str, int] | None = None) -> ShardInfo | None:
    """The shard as its sidecar tells it; None where it is not done (no sidecar, no tar, or a tar of another length).

    The tar has either of its names. sizes: the tars' lengths by name, where they are elsewhere.

    Raises MixstyleError for a sidecar that is damaged or of an unknown version.
    """
    path = sidecar_path(stems_dir, shard)
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("version"), int):
        raise MixstyleError(f"{path}: a damaged sidecar (it names no version)", code="damaged-file")
    if content["version"] != VERSION:
        raise MixstyleError(
            f"{path}: not a sidecar of version {VERSION}, the one this mixstyle reads", code="unknown-version"
        )
    try:
        found = _shard_info(tar_path(stems_dir, shard), shard, content)
    except (KeyError, TypeError, ValueError) as error:
        raise MixstyleError(
            f"{path}: a damaged sidecar ({type(error).__name__}: {one_line(error)})", code="damaged-file"
        ) from error
    for tar in (found.tar, stems_dir / hashed_name(shard, found.sha256)):
        if _size_of(tar, sizes) == found.size:
            return replace(found, tar=tar)
    return None


def _size_of(tar: Path, sizes: Mapping[str, int] | None) -> int | None:
    if sizes is not None:
        return sizes.get(tar.name)
    return tar.stat().st_size if tar.exists() else None


def _shard_info(tar: Path, shard: int, content: Mapping[str, Any]) -> ShardInfo:
    """What a sidecar says. Raises KeyError, TypeError or ValueError for one that says less than it should."""
    members = {name: (int(offset), int(size)) for name, offset, size in content["members"]}
    crc32 = dict(zip(members, content["crc32"], strict=True)) if "crc32" in content else {}
    for track in content["tracks"]:
        _check_track(track, members)
    size, tries = int(content["bytes"]), int(content.get("tries", 1))
    if not (isinstance(content["fingerprint"], str) and isinstance(content["sha256"], str)):
        raise TypeError("fingerprint or sha256")
    return ShardInfo(
        shard, tar, content["fingerprint"], content["sha256"], size, members, content["tracks"], crc32, tries
    )


def _check_track(track: Mapping[str, Any], members: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError for a track of a sidecar that is not as `_describe` made it."""
    for name in ("track_id", "path", "split", "status", "reason"):
        if not isinstance(track[name], str):
            raise TypeError(name)
    for slot, clip in enumerate(track["clips"]):
        is_there = track["status"] == clip["status"] == "ok"
        wanted = [f"{track['track_id']}.c{slot}.flac", f"{track['track_id']}.json"] if is_there else []
        if any(name not in members for name in wanted):
            raise KeyError(wanted[0])
        if not isinstance(clip["start_frame"], int if is_there else int | None):
            raise TypeError("start_frame")
        if not (isinstance(clip["clip_id"], str) and isinstance(clip["reason"], str) and float(clip["scale"]) > 0):
            raise ValueError("scale")


def shard_numbers(stems_dir: Path) -> list[int]:
    """Numbers of the shards that have a sidecar, in order."""
    names = (path.stem.removeprefix("stems-") for path in stems_dir.glob("stems-*.json"))
    return sorted(int(name) for name in names if name.isdecimal())


class _Hashing:
    """A file to write to that hashes and counts what passes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self.size


def _add(archive: "TarWriter", name: str, data: bytes) -> int:
    """Adds a member; returns where its bytes begin in the tar."""
    # one at a time: TarWriter would sort a sample's members by name, and c10 comes before c2
    key, _, suffix = name.partition(".")
    archive.write({"__key__": key, suffix: data})
    # a header is one block, and the content fills whole blocks up to where the archive is now
    return archive.tarstream.offset - padded(len(data))


def padded(size: int) -> int:
    """Bytes that content of that size takes in a tar: whole blocks.

    >>> padded(1), padded(512), padded(513)
    (512, 512, 1024)
    """
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _kept(track: TrackRecord) -> list[ClipRecord]:
    return [] if track.reason else [clip for clip in track.clips if not clip.reason]


def _members(track: TrackRecord) -> list[tuple[str, bytes]]:
    kept = _kept(track)
    if not kept:
        return []
    files = [f"{track.track_id}.c{clip.slot}.flac" for clip in kept]
    sample = {
        "version": VERSION,
        "track_id": track.track_id,
        "path": track.path,
        "split": track.split,
        **track.source,
        "sample_rate": SAMPLE_RATE,
        "channels": list(CHANNELS),
        "clip_id": [clip.clip_id for clip in kept],
        "slot": [clip.slot for clip in kept],
        "start_frame": [clip.start_frame for clip in kept],
        "scale": [clip.scale for clip in kept],
        "file": files,
    }
    text = json.dumps(sample, sort_keys=True, allow_nan=False)
    audio = [(name, clip.flac) for name, clip in zip(files, kept, strict=True)]
    return [*audio, (f"{track.track_id}.json", text.encode("utf-8"))]


def _describe(track: TrackRecord) -> dict[str, Any]:
    kept = {clip.slot for clip in _kept(track)}
    halved = {"batch_chunks": list(track.batch_chunks)} if track.batch_chunks else {}
    noted = {"note": track.source["note"]} if "note" in track.source else {}
    return {
        **halved,
        **noted,
        "track_id": track.track_id,
        "path": track.path,
        "split": track.split,
        "status": "ok" if kept else "failed",
        "reason": track.reason,
        "clips": [
            {
                "clip_id": clip.clip_id,
                "status": "ok" if clip.slot in kept else "failed",
                "reason": clip.reason or track.reason,
                "start_frame": clip.start_frame,
                "scale": clip.scale,
            }
            for clip in track.clips
        ],
    }
