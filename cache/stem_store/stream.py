"""Reading shards from front to back: webdataset pipelines over the tars, with blocks read ahead.

One request a block in place of one a clip, in the order in which the bytes are: for disks that seek slowly and for
stores that answer slowly. Everything that comes is held against the sidecars, so that nothing is missed in a tar that
was cut short.
"""

import hashlib
import io
import tarfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import webdataset.tariterators as stages
from webdataset.pipeline import DataPipeline

from mixstyle.cache.stem_store.shards import ShardInfo, padded
from mixstyle.cache.stem_store.stem_cache import BLOCK_BYTES, CachedTrack, StemCache

BLOCKS_AHEAD = 4
"""Blocks that are asked for before they are wanted."""
Clips = dict[int, bytes]
"""FLAC files of a track's clips, by their rows."""


def stream_tracks(
    cache: StemCache, runs: Iterable[Sequence[CachedTrack]]
) -> Generator[tuple[CachedTrack, Clips], None, None]:
    """Tracks and their clips, run after run; the tracks of a run are in one shard, in the order of the manifest.

    A run goes through its shard's tar once, and the next run's first blocks are fetched before it ends. Raises
    MixstyleError ("damaged-file"), naming the shard, for a tar that does not hold what its sidecar says.
    """
    pool = ThreadPoolExecutor(BLOCKS_AHEAD)
    opened: deque[tuple[Sequence[CachedTrack], _Blocks]] = deque()
    try:
        for run in runs:
            opened.append((run, _Blocks(cache, pool, run[0].shard, _begin(run[0]), _end(run[-1]))))
            if len(opened) > 1:
                yield from _matched(cache, *opened.popleft())
        while opened:
            yield from _matched(cache, *opened.popleft())
    finally:
        pool.shutdown(cancel_futures=True)


def verified_tracks(
    cache: StemCache, shard: ShardInfo, tracks: Sequence[CachedTrack]
) -> Iterator[tuple[CachedTrack, Clips]]:
    """All tracks of a shard and their clips. When it ends, the whole tar was read, and its SHA-256 is the sidecar's.

    Raises MixstyleError ("damaged-file") as `stream_tracks` does, and at the end where the hash differs.
    """
    digest = hashlib.sha256()
    with ThreadPoolExecutor(BLOCKS_AHEAD) as pool:
        blocks = _Blocks(cache, pool, shard.shard, 0, shard.size, digest.update)
        yield from _matched(cache, tracks, blocks)
        while blocks.read(BLOCK_BYTES):
            pass
    if digest.hexdigest() != shard.sha256:
        raise cache.damaged(shard.shard, "its bytes differ from those that were written")


def _begin(track: CachedTrack) -> int:
    """Where a track's first member begins in the tar: one block before its content."""
    return track.clips[0].offset - tarfile.BLOCKSIZE


def _end(track: CachedTrack) -> int:
    """Where a track's last member, its JSON, ends in the tar."""
    return track.metadata[0] + padded(track.metadata[1])


def _matched(cache: StemCache, tracks: Sequence[CachedTrack], blocks: "_Blocks") -> Iterator[tuple[CachedTrack, Clips]]:
    """What a webdataset pipeline makes of the blocks, held against what the sidecar says."""
    shard = blocks.shard
    names = {track.track_id for track in tracks}
    samples = DataPipeline(
        lambda: iter([{"url": f"stems-{shard:06d}.tar", "stream": blocks}]),
        lambda sources: stages.tar_file_expander(sources, select_files=lambda name: name.partition(".")[0] in names),
        stages.group_by_keys,
    )
    found: Iterator[dict[str, Any]] = iter(samples)
    for track in tracks:
        try:
            sample = next(found, {})
        except (tarfile.TarError, ValueError) as error:
            cache.drop(shard, _begin(track), _end(track) - _begin(track))
            raise cache.damaged(shard, f"is not a whole tar ({error})") from error
        slots = {clip.row: f"c{clip.row % cache.clips_per_track}.flac" for clip in track.clips}
        clips = {row: sample.get(name, b"") for row, name in slots.items()}
        if sample.get("__key__") != track.track_id or any(len(clips[c.row]) != c.size for c in track.clips):
            cache.drop(shard, _begin(track), _end(track) - _begin(track))
            raise cache.damaged(shard, f"does not hold track {track.track_id} where its sidecar says")
        yield track, clips


class _Blocks(io.RawIOBase):
    """A part of a tar as a file to read from front to back; blocks are fetched ahead by a pool's threads."""

    def __init__(
        self,
        cache: StemCache,
        pool: ThreadPoolExecutor,
        shard: int,
        first: int,
        last: int,
        watch: Callable[[bytes], object] = len,
    ) -> None:
        self._cache, self._pool, self.shard, self._watch = cache, pool, shard, watch
        starts = range(first - first % BLOCK_BYTES, last, BLOCK_BYTES)
        size = cache.tar_bytes(shard)
        self._spans = iter([(start, min(start + BLOCK_BYTES, size)) for start in starts])
        self._asked: deque[Future[bytes]] = deque()
        self._left, self._place, self._skip = memoryview(b""), 0, first % BLOCK_BYTES
        self._stop = last - first
        for _ in range(BLOCKS_AHEAD):
            self._ask()

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """At most that many bytes; fewer at the end of a block, none at the end of the part."""
        if not self._left and not self._next():
            return b""
        size = len(self._left) if size < 0 else size
        parts = []
        while size and (self._left or self._next()):
            parts.append(self._left[:size])
            self._left = self._left[size:]
            size -= len(parts[-1])
        data = parts[0].tobytes() if len(parts) == 1 else b"".join(parts)
        self._watch(data)
        return data

    def _next(self) -> bool:
        """Takes the next block; whether there was one."""
        if not self._asked or self._place >= self._stop:
            return False
        data = memoryview(self._asked.popleft().result())[self._skip :]
        self._skip = 0
        self._ask()
        self._left = data[: self._stop - self._place]
        self._place += len(self._left)
        return bool(self._left)

    def _ask(self) -> None:
        span = next(self._spans, None)
        if span is not None:
            self._asked.append(self._pool.submit(self._fetch, *span))

    def _fetch(self, start: int, stop: int) -> bytes:
        data = self._cache.read_bytes(self.shard, start, stop - start)
        if len(data) != stop - start:
            raise self._cache.damaged(self.shard, "is cut short")
        return data
