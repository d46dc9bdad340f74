"""Stems behind a URL (`s3://`, `gs://`, `http://`, whatever fsspec knows), read by ranges, with a bounded local cache.

What is small (settings and the shards' sidecars, which hold every clip's place) is copied once and looked at anew each
time; the tars stay where they are, and a clip is one request for its bytes. Bytes that were read are kept in a folder
of bounded size, the oldest ones go first. Several processes may share the folder. A kept file ends in `CRC1` and its
CRC-32 (little-endian); files of earlier versions do not. What is damaged there, or came damaged, is asked for once
more.
"""

import contextlib
import hashlib
import os
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from mixstyle.cache.stem_store.shards import ShardInfo, read_shard
from mixstyle.cache.stem_store.stem_cache import BLOCK_BYTES, CachedClip, CachedTrack, StemCache
from mixstyle.cache.storage.atomic import publish
from mixstyle.pipeline.core.errors import ErrorCode, MixstyleError

TRIES = 4
WAIT_S = 0.5
"""Before the second try; each later one waits twice as long."""
SWEEP_EVERY = 64
"""Files written between looks at how large the cache is."""
_MAGIC = b"CRC1"
LEFT = 0.9
"""Of its bound, what a full cache is brought down to."""


class RemoteStemCache(StemCache):
    """`StemCache` whose shards lie behind a URL.

    url: the folder of stems. cache_dir, cache_bytes: where bytes that were read are kept, and how many at most.
    Raises MixstyleError, naming the URL, for what cannot be reached, and as `StemCache` does.
    """

    def __init__(self, url: str, cache_dir: Path | str, cache_bytes: float) -> None:
        self.url = url.rstrip("/")
        self._clips = ClipFolder(Path(cache_dir) / "clips", cache_bytes)
        self._file_system: tuple[int, Any] = (0, None)
        mirror = Path(cache_dir) / hashlib.sha256(self.url.encode()).hexdigest()[:16]
        self._sizes = self._copy_index(mirror)
        super().__init__(mirror)
        self._sha256 = {shard.shard: shard.sha256 for shard in self.shards}

    def verify(self) -> None:
        """Reads every shard whole and compares its SHA-256. Raises MixstyleError naming the first that differs."""
        for shard in self.shards:
            digest = hashlib.sha256()
            with self._fs.open(self._path(shard.tar.name), "rb") as file:
                while data := file.read(1 << 22):
                    digest.update(data)
            if digest.hexdigest() != shard.sha256:
                raise self.damaged(shard.shard, "its bytes are not those that were written")

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
        path = self._path(self._tars[shard].name)
        data = self._tried(lambda: self._fs.cat_file(path, start=offset, end=offset + size), path)
        if len(data) != size:
            raise self.damaged(shard, "is cut short")
        return data

    def _shard(self, number: int, made_with: str) -> ShardInfo:
        shard = read_shard(self.stems_dir, number, self._sizes.get(f"stems-{number:06d}.tar", -1))
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

    @property
    def _fs(self) -> Any:
        """The file system, one for each process: threads and connections do not survive a fork."""
        if self._file_system[0] != os.getpid():
            self._file_system = (os.getpid(), _file_system(self.url))
        return self._file_system[1]

    def _path(self, name: str) -> str:
        return f"{self._fs._strip_protocol(self.url)}/{name}"

    def _copy_index(self, mirror: Path) -> dict[str, int]:
        """Copies settings and sidecars; gives the tars' sizes by their names."""
        root = self._fs._strip_protocol(self.url)
        self._fs.invalidate_cache()
        listed = self._tried(lambda: self._fs.ls(root, detail=True), self.url)
        sizes = {Path(entry["name"]).name: int(entry["size"] or 0) for entry in listed}
        wanted = [name for name in sizes if name == "settings.json" or _is_sidecar(name)]
        if "settings.json" not in wanted:
            raise MixstyleError(
                f"{self.url}: no stems here; copy what `mixstyle separate` made to it, with its .json", code="not-found"
            )
        paths = {self._path(name): name for name in wanted}
        contents = self._tried(lambda: self._fs.cat(list(paths)), self.url)
        mirror.mkdir(parents=True, exist_ok=True)
        for stale in mirror.glob("*.json"):
            if stale.name not in wanted:
                stale.unlink(missing_ok=True)  # another process may have been faster
        for path, data in contents.items():
            target = mirror / paths[self._fs._strip_protocol(path)]
            if not target.is_file() or target.read_bytes() != data:
                temporary = _own_partial(target)
                temporary.write_bytes(data)
                publish(temporary, target)
        return {name: size for name, size in sizes.items() if name.endswith(".tar")}

    def _tried(self, read: Any, what: str) -> Any:
        """What `read` gives; servers that stumble are asked again."""
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(WAIT_S * 2 ** (attempt - 1))
            try:
                return read()
            except FileNotFoundError as error:
                raise MixstyleError(f"{what}: not there", code="not-found") from error
            except PermissionError as error:
                raise MixstyleError(f"{what}: may not be read with these credentials", code="remote") from error
            except Exception as error:  # noqa: BLE001 (each file system has errors of its own, with no common kind)
                why = " ".join(str(error).split())[:160] or type(error).__name__
        raise MixstyleError(f"{what}: cannot be read ({why})", code="remote")


class ClipFolder:
    """A folder of byte strings by key that holds about `limit_bytes` at most, those that were used last."""

    def __init__(self, folder: Path, limit_bytes: float) -> None:
        self.folder, self.limit_bytes = folder, limit_bytes
        self._written, self._told = 0, False

    def get(self, key: str, size: int) -> bytes | None:
        """What was put; None where it is not there (any more), not as long, or damaged, and it is then removed."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
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
        if len(data) > self.limit_bytes:
            return
        path = self._path(key)
        temporary = _own_partial(path)  # lost, it is read again: it need not be flushed
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(data + _trailer(data))
            temporary.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not self._told:
                self._told = True
                why = error.strerror or error
                print(
                    f"mixstyle: warning: {self.folder}: clips are not kept there ({why})", file=sys.stderr, flush=True
                )
            return
        self._written += 1
        if self._written % SWEEP_EVERY == 0 or len(data) * SWEEP_EVERY > self.limit_bytes:
            self.sweep()

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


def kept_is_whole(path: Path) -> bool:
    """Whether a kept file is what was put; files of earlier versions have no checksum, and count as whole."""
    data = path.read_bytes()
    length = len(_trailer(b""))
    return data[-length:-4] != _MAGIC or data[-length:] == _trailer(data[:-length])


def _trailer(data: bytes) -> bytes:
    """What a kept file ends in."""
    return _MAGIC + zlib.crc32(data).to_bytes(4, "little")


def _own_partial(path: Path) -> Path:
    """A temporary name that no other process or thread takes: several write the same files, each with equal bytes."""
    return path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.partial")


def _is_sidecar(name: str) -> bool:
    return name.startswith("stems-") and name.endswith(".json")


def _file_system(url: str) -> Any:
    try:
        # fsspec keeps one file system for equal arguments, with the endpoint that the environment named back then
        return fsspec.core.url_to_fs(url, skip_instance_cache=True)[0]
    except ImportError as error:
        raise MixstyleError(f"{url}: {error}; for s3:// install mixstyle[s3]", code="no-package") from error
    except ValueError as error:
        raise MixstyleError(f"{url}: {error}", code="bad-setting") from error
