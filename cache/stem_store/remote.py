"""Stems behind a URL (`s3://`, `gs://`, `http://`, whatever fsspec knows), read by ranges, with a bounded local cache.

What is small (settings and the shards' sidecars, which hold every clip's place) is copied once and looked at again each
time; the tars stay where they are, and a clip is one request for its bytes. Bytes that were read are kept in a folder
of bounded size, the oldest ones go first. Several processes may share the folder. A kept file ends in `CRC1` and its
CRC-32 (little-endian); files of earlier versions do not. What is damaged there, or came damaged, is asked for once
more. Nothing of it is needed: where the disk takes no more, clips are asked for each time, and what is small goes to
the folder for temporary files until the end.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import weakref
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.place import is_small
from mixstyle.cache.stem_store.shards import ShardInfo, read_shard
from mixstyle.cache.stem_store.stem_cache import BLOCK_BYTES, CachedClip, CachedTrack, StemCache
from mixstyle.cache.storage.as_stored import differs
from mixstyle.cache.storage.atomic import own_partial
from mixstyle.cache.storage.once_across_forks import Once
from mixstyle.cache.storage.place import RemotePlace, working_folder
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.writable import REFUSALS
from mixstyle.pipeline.core.errors import ErrorCode, MixstyleError
from mixstyle.pipeline.core.text import printable

SWEEP_EVERY = 64
"""Files written between looks at how large the cache is."""
_MAGIC = b"CRC1"
LEFT = 0.9
"""Of its bound, what a full cache is brought down to."""


class RemoteStemCache(StemCache):
    """`StemCache` whose shards are behind a URL.

    url: the folder of stems. cache_dir, cache_bytes: where bytes that were read are kept, and how many at most.
    Raises MixstyleError, naming the URL, for what cannot be reached, and as `StemCache` does.
    """

    def __init__(self, url: str, cache_dir: Path | str, cache_bytes: float) -> None:
        self.url = url.rstrip("/")
        self._clips = ClipFolder(Path(cache_dir) / "clips", cache_bytes)
        place = self._copied(working_folder(self.url, Path(cache_dir)))
        self._store = place.store
        self._sizes = place.sizes
        if SETTINGS not in self._sizes:
            raise MixstyleError(
                f"{self.url}: no stems here; make them with separate.stems_dir={self.url}, or copy what `mixstyle "
                "separate` made to it, with its .json",
                code="not-found",
            )
        super().__init__(place.folder)
        self.name = self.url
        self._sha256 = {shard.shard: shard.sha256 for shard in self.shards}

    def _copied(self, folder: Path) -> RemotePlace:
        """Copies of what is small, in the folder, or in one for temporary files where it cannot be written."""
        place = RemotePlace(self.url, folder, is_small)
        try:
            place.refresh()
        except (MixstyleError, OSError) as error:
            if isinstance(error, MixstyleError) and error.code != "cannot-write":
                raise
            if isinstance(error, OSError) and error.errno not in REFUSALS:
                raise
            self._clips.give_up(getattr(error, "strerror", None) or str(error))
            place = RemotePlace(self.url, Path(tempfile.mkdtemp(prefix="mixstyle-stems-")), is_small)
            weakref.finalize(self, _remove_own, place.folder, os.getpid())
            place.refresh()
        return place

    @property
    def unnamed(self) -> dict[str, int]:
        named = {tar.name for tar in self._tars.values()}
        tars = {name: size for name, size in self._sizes.items() if name.startswith("stems-") and name.endswith(".tar")}
        return {name: size for name, size in tars.items() if name not in named}

    def verify(self) -> None:
        """Reads every shard whole and compares its SHA-256. Raises MixstyleError naming the first that differs."""
        for shard in self.shards:
            if differs(self._store, shard.tar.name, shard.size, shard.sha256):
                raise self.damaged(shard.shard, "its bytes differ from those that were written")

    def read_bytes(self, shard: int, offset: int, size: int) -> bytes:
        data = self._clips.get(self._key(shard, offset, size), size)
        if data is None:
            data = self._fetched(shard, offset, size)
            self._clips.put(self._key(shard, offset, size), data)
        return data

    def decode(self, clip: CachedClip, flac: bytes, start: int = 0, frames: int = -1) -> np.ndarray:
        """As `StemCache.decode`; a clip that is damaged is fetched once more, and what was kept of it is dropped."""
        try:
            return super().decode(clip, flac, start, frames)
        except MixstyleError:
            self.drop(clip.shard, clip.offset, clip.size)
            return super().decode(clip, self._fetched(clip.shard, clip.offset, clip.size), start, frames)

    def read_metadata(self, track: CachedTrack) -> dict[str, Any]:
        try:
            return super().read_metadata(track)
        except MixstyleError:
            self.drop(track.shard, *track.metadata)
            return super().read_metadata(track)

    def drop(self, shard: int, offset: int, size: int) -> None:
        self._clips.remove(self._key(shard, offset, size))
        last = self.tar_bytes(shard)
        for start in range(offset - offset % BLOCK_BYTES, offset + size, BLOCK_BYTES):
            self._clips.remove(self._key(shard, start, min(BLOCK_BYTES, last - start)))

    def _key(self, shard: int, offset: int, size: int) -> str:
        return hashlib.sha256(f"{self.url} {self._sha256[shard]} {offset} {size}".encode()).hexdigest()

    def _fetched(self, shard: int, offset: int, size: int) -> bytes:
        return self._store.read(self._tars[shard].name, offset, offset + size)

    def _shard(self, number: int, made_with: str) -> ShardInfo:
        shard = read_shard(self.stems_dir, number, self._sizes)
        if shard is None:
            raise self.damaged(number, "is missing or cut short")
        if shard.fingerprint != made_with:
            raise self.damaged(number, "was made with other settings", "stale")
        return shard

    def damaged(self, shard: int, what: str, code: ErrorCode = "damaged-file") -> MixstyleError:
        return MixstyleError(
            f"{self.url}/stems-{shard:06d}.tar: {what}; copy the shard and its .json there again",
            code=code,
        )


class ClipFolder:
    """A folder of byte strings by key that holds about `limit_bytes` at most, those that were used last."""

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._written, self._given_up = 0, False
        self._told = _once(folder.absolute())  # now, not in a process that is forked later

    def get(self, key: str, size: int) -> bytes | None:
        """What was put; None where it is not there (any more), not as long, or damaged, and it is then removed."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        with contextlib.suppress(OSError):  # a disk that cannot be written gives what it has anyway
            os.utime(path)
        if len(data) == size:  # of an earlier version, which kept no checksum
            return data
        kept = data[: -len(_trailer(b""))]
        if len(kept) == size and data[size:] == _trailer(kept):
            return kept
        self.remove(key)
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keeps data, unless it alone is more than the folder may hold; room is made for it.

        It is only a cache: where the disk is full or cannot be written, that is told once, and nothing is kept.
        """
        if self._given_up or len(data) > self.limit_bytes:
            return
        path = self._path(key)
        temporary = own_partial(path)  # lost, it is read again: it need not be flushed
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data + _trailer(data))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            self._tell(error.strerror or str(error))
            return
        self._written += 1
        if self._written % SWEEP_EVERY == 0 or len(data) * SWEEP_EVERY > self.limit_bytes:
            self.sweep()

    def give_up(self, why: str) -> None:
        """Keeps nothing more; what is there is read anyway."""
        self._given_up = True
        self._tell(why)

    def _tell(self, why: str) -> None:
        if self._told.take():
            line = printable(f"mixstyle: warning: {self.folder}: clips are not kept there ({why})")
            print(line, file=sys.stderr, flush=True)

    def remove(self, key: str) -> None:
        """Forgets what was put, if it is there."""
        with contextlib.suppress(OSError):
            self._path(key).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Removes what was not used for longest, if there is too much."""
        found = []
        for path in self.folder.glob("??/*"):
            try:
                state = path.stat()
            except OSError:
                continue  # another process was faster
            found.append((state.st_mtime, state.st_size, path))
        total = sum(size for _, size, _ in found)
        if total <= self.limit_bytes:
            return
        for _, size, path in sorted(found):
            path.unlink(missing_ok=True)
            total -= size
            if total <= LEFT * self.limit_bytes:
                break

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


@functools.cache
def _once(folder: Path) -> Once:
    """For what is told of a folder, by this process and all that are forked from it."""
    return Once()


def kept_is_whole(path: Path) -> bool:
    """Whether a kept file is what was put; files of earlier versions have no checksum, and count as whole."""
    data = path.read_bytes()
    length = len(_trailer(b""))
    return data[-length:-4] != _MAGIC or data[-length:] == _trailer(data[:-length])


def _remove_own(folder: Path, process: int) -> None:
    """Removes a folder for temporary files; not in a forked process, whose parent still reads it."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _trailer(data: bytes) -> bytes:
    """What a kept file ends in."""
    return _MAGIC + zlib.crc32(data).to_bytes(4, "little")
