"""What a music file sounds like, as a hash: tags do not count, only the audio bytes.

- FLAC: the MD5 of its samples, which its header holds; PCM WAV: the same MD5, of its data. A WAV and the FLAC made of
  it are equal.
- MP3: SHA-256 of what is between the tags (ID3v2 before; ID3v1 and APE after).
- All else: SHA-256 of the whole file, so an Ogg file with other tags counts as another.

The same recording encoded twice is not told as the same.
"""

import hashlib
import os
import struct
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mixstyle.cache.music.remote_music import Looking, RemoteFile
from mixstyle.cache.music.tags import after_id3v2, before_last_tags
from mixstyle.cache.music.wav_data import wav_data

MusicFile = Path | RemoteFile
Identity = tuple[Hashable, Hashable]
"""Of a file: equal for links to it."""
HEAD_BYTES = 65_536
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class AudioBytes:
    """Where a file's audio is: bytes start to stop.

    kind: files of different kinds are never equal (`pcm 44100 2 16`, `mp3`, `file`). size: of the audio as hashed,
    bytes. known: the hash, where the header holds it.
    """

    kind: str
    start: int
    stop: int
    size: int
    known: str = ""


def audio_bytes(path: MusicFile) -> AudioBytes:
    """Finds a file's audio from its first and last bytes. Raises OSError for files that cannot be read."""
    with path.open("rb") as file:
        return _locate(file)


def quick_hash(path: MusicFile, audio: AudioBytes) -> str:
    """32 hex digits of the audio's kind, its length, and its first and last 64 KiB."""
    digest = hashlib.sha256(f"{audio.kind} {audio.size} {audio.known}".encode())
    with path.open("rb") as file:
        file.seek(audio.start)
        digest.update(file.read(min(HEAD_BYTES, audio.stop - audio.start)))
        file.seek(max(audio.start, audio.stop - HEAD_BYTES))
        digest.update(file.read(min(HEAD_BYTES, audio.stop - audio.start)))
    return digest.hexdigest()[:32]


def content_hash(path: MusicFile) -> str:
    """32 hex digits that are equal for files with identical audio. Raises OSError for files that cannot be read."""
    with path.open("rb") as file:
        audio = _locate(file)
        if audio.known:
            return audio.known
        digest = hashlib.md5(usedforsecurity=False) if audio.kind.startswith("pcm") else hashlib.sha256()
        file.seek(audio.start)
        left = audio.stop - audio.start
        while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
            digest.update(block)
            left -= len(block)
    return _named(audio.kind, digest.hexdigest())


def duplicates(paths: Iterable[MusicFile]) -> list[list[MusicFile]]:
    """Groups of two or more paths with identical audio, in the order given.

    Only files whose audio has the same length are read: first their ends, then, where these agree, all of them. Links
    to one file (the same inode) are read once. Files that cannot be read are in no group.
    """
    paths = list(paths)
    looked_up = _looked_up(paths)
    links: dict[Identity, list[MusicFile]] = defaultdict(list)
    by_size: dict[tuple[str, int], list[tuple[AudioBytes, Identity]]] = defaultdict(list)
    for path in paths:
        try:
            status = path.stat()
            inode = (status.st_dev, status.st_ino)
            if inode not in links and status.st_size > 0:
                audio = looked_up.get(path) or audio_bytes(path)
                by_size[audio.kind, audio.size].append((audio, inode))
        except OSError:
            continue
        links[inode].append(path)
    groups: dict[str, list[MusicFile]] = defaultdict(list)
    for inode, linked in links.items():
        groups[f"inode {inode}"] = linked
    for same in by_size.values():
        _join_equal(same, links, groups)
    order = {path: i for i, group in enumerate(links.values()) for path in group}
    return [sorted(group, key=order.__getitem__) for group in groups.values() if len(group) > 1]


def _looked_up(paths: Sequence[MusicFile]) -> dict[MusicFile, AudioBytes | None]:
    """Where the audio is of files behind URLs: many are looked at together, since each has to be waited for."""

    def look(file: RemoteFile) -> AudioBytes | None:
        try:
            return audio_bytes(file)
        except OSError:
            return None

    remote = [path for path in paths if isinstance(path, RemoteFile)]
    if not remote:
        return {}
    with Looking() as threads:
        return dict(zip(remote, threads.map(look, remote), strict=True))


def _join_equal(
    same: list[tuple[AudioBytes, Identity]],
    links: dict[Identity, list[MusicFile]],
    groups: dict[str, list[MusicFile]],
) -> None:
    """Joins the groups of files of one kind and length whose content is equal."""
    if len(same) < 2:
        return
    # a hash from a FLAC's header is compared with the whole of the others, whose ends say nothing about it
    mixed = any(audio.known for audio, _ in same)
    by_ends: dict[str, list[Identity]] = defaultdict(list)
    for audio, inode in same:
        try:
            by_ends["" if mixed else quick_hash(links[inode][0], audio)].append(inode)
        except OSError:
            continue
    for inodes in by_ends.values():
        by_content: dict[str, Identity] = {}
        for inode in inodes if len(inodes) > 1 else []:
            try:
                first = by_content.setdefault(content_hash(links[inode][0]), inode)
            except OSError:
                continue
            if first != inode:
                groups[f"inode {first}"] = groups[f"inode {first}"] + groups.pop(f"inode {inode}")


def _named(kind: str, digest: str) -> str:
    """The hash with the kind in it, so that equal bytes of different rates or channels differ."""
    return hashlib.sha256(f"{kind} {digest}".encode()).hexdigest()[:32]


def _locate(file: BinaryIO) -> AudioBytes:
    size, start = file.seek(0, os.SEEK_END), after_id3v2(file)
    found = _by_format(file, start, size)
    # what looks empty is none of these formats, or its header is wrong: as no bytes, all of its kind would be equal
    return found if found is not None and found.size > 0 else AudioBytes("file", 0, size, size)


def _by_format(file: BinaryIO, start: int, size: int) -> AudioBytes | None:
    file.seek(start)
    head = file.read(64)
    if head[:4] == b"fLaC" and len(head) >= 42:
        return _flac(head, start, size)
    if head[:4] in (b"RIFF", b"RF64") and head[8:12] == b"WAVE":
        found = _wav(file, start)
        if found is not None:
            return found
    is_mpeg = len(head) >= 2 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    if start > 0 or is_mpeg:
        stop = max(start, before_last_tags(file))
        return AudioBytes("mp3", start, stop, stop - start)
    return None


def _flac(head: bytes, start: int, size: int) -> AudioBytes:
    """STREAMINFO (RFC 9639, section 8.2): rate 20 bits, channels - 1: 3, bits - 1: 5, samples: 36, then the MD5."""
    packed = int.from_bytes(head[18:26], "big")
    rate, channels = packed >> 44, (packed >> 41 & 7) + 1
    bits, samples = (packed >> 36 & 31) + 1, packed & (1 << 36) - 1
    md5 = head[26:42]
    if not any(md5):
        return AudioBytes("file", start, size, size - start)
    kind = f"pcm {rate} {channels} {bits}"
    return AudioBytes(kind, start, size, samples * channels * -(-bits // 8), _named(kind, md5.hex()))


def _wav(file: BinaryIO, start: int) -> AudioBytes | None:
    """The data chunk; its samples count as FLAC's do where they are plain PCM of 16 or 24 bits."""
    found = wav_data(file, start)
    if found is None:
        return None
    form = found.form
    tag, channels, rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
    tag = struct.unpack("<H", form[24:26])[0] if tag == 0xFFFE and len(form) >= 26 else tag
    kind = f"pcm {rate} {channels} {bits}" if tag == 1 and bits in (16, 24) else f"wav {form.hex()}"
    return AudioBytes(kind, found.start, found.stop, found.stop - found.start)
