"""`mixstyle features`: the descriptors of every cached clip, shard by shard, into a Zarr store; a bank's into another.

A shard of stems is read once from front to back and checked against its sidecar, threads decode and describe its clips
batch by batch, and its rows are written as one chunk. What is done is told by the store alone, so a killed run goes on
with the shard that it was in. Shards that `separate` has not finished yet are left for a later run. Several processes,
on one machine or on many, fill one store by taking shares of its shards; the process that finds the last one done
writes the statistics.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.cache.feature_store.layout import RowKeys, ShardRows
from mixstyle.cache.feature_store.place import MACHINES
from mixstyle.cache.feature_store.store import FeatureStore, set_codec_threads
from mixstyle.cache.stem_store.manifest import MANIFEST, load_manifest
from mixstyle.cache.stem_store.shards import ShardInfo
from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.cache.stem_store.stream import verified_tracks
from mixstyle.cache.storage.atomic import drop_scratch
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.urls import shown
from mixstyle.cache.storage.writable import check_folder, refusals_told
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION, describe
from mixstyle.pipeline.descriptors.kernels.measure import NAME as KERNEL_NAME
from mixstyle.pipeline.descriptors.kernels.measure import MeasureKernel
from mixstyle.stages.cluster.mixed import forget_mixed_at
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.descriptor_kernel import kernel_of
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.common.shares import check_share
from mixstyle.stages.common.stage_status import is_begun
from mixstyle.stages.features.on_ray import fill_on_ray
from mixstyle.stages.features.provenance import KERNEL, provenance_of, stale_reasons
from mixstyle.stages.settings.places import open_shards, place_of_features
from mixstyle.stages.settings.profile import Settings

Encoded = tuple[CachedClip, bytes]
"""A clip and its FLAC file."""


@dataclass(frozen=True)
class FeaturesSummary:
    """What a run of `features` did."""

    features_path: Path
    shards: int
    """Shards of the manifest."""
    shards_computed: int
    shards_waiting: int
    """Shards that `separate` has not finished."""
    shards_elsewhere: int
    """Shards that are separated, and left to other shares or in the hands of other processes."""
    clips: int
    """Clips with descriptors, those of earlier runs among them."""
    clips_failed: int
    """Clips without, in shards that are done."""
    clips_per_s: float
    """Of this run; 0 where nothing was left to do."""
    times_real_time: float
    """Seconds of audio described in a second, all stems of a clip together."""
    bank: "FeaturesSummary | None" = None
    """The same of the bank's clips, where there is one."""


def _kernel(store: FeatureStore, device: torch.device) -> MeasureKernel | None:
    """What goes on with a store: what it was begun with, where that is available here."""
    return kernel_of(str(store.made_with.get(KERNEL, "")), device)


def features(
    settings: Settings,
    rebuild: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
    ray: RayOptions | None = None,
) -> FeaturesSummary:
    """Fills the store with what is missing, or with share `shard_index` of `num_shards` of it; then the bank's.

    A share is every num_shards-th shard of the manifest. Any number of processes may fill a store at once, with equal
    shares or others: a shard that another one is computing is left to it.

    Shards of the store that are damaged are computed again. rebuild: the store is made again; with several shares only
    one that does not fit, since each of their processes is given the option and none should undo the others' work.
    ray: a cluster whose processes compute the shards.

    Raises MixstyleError where there are no stems, where a shard of them is damaged, where the store was made from other
    stems or descriptors or is damaged as a whole and `rebuild` is not set, and where other processes hold all that is
    left of the share.
    """
    check_share(shard_index, num_shards)
    keep_freed_memory()
    check_folder(place_of_features(settings, settings.features.features_path).folder.parent)
    set_codec_threads(num_shards)
    share = (shard_index, num_shards)
    summary = _describe(settings, settings.separate.stems_dir, settings.features.features_path, rebuild, share, ray)
    return replace(summary, bank=_describe_bank(settings, rebuild, share, ray))


def _describe_bank(
    settings: Settings, rebuild: bool, share: tuple[int, int], ray: RayOptions | None
) -> FeaturesSummary | None:
    """The same for the bank, where the profile has one and it is whole."""
    chosen = settings.remix
    if not chosen.blocks:
        return None
    begun = is_begun(chosen.remix_dir)
    if not begun or not open_shards(settings, chosen.remix_dir).complete:
        place = shown(chosen.remix_dir)
        why = (
            f"the bank in {place} is not finished yet, so its clips have no descriptors"
            if begun
            else f"no bank in {place}"
        )
        remark(f"features: {why}; first run: {completed(('remix',), settings)}")
        return None
    return _describe(settings, chosen.remix_dir, chosen.features_path, rebuild, share, ray)


def _describe(
    settings: Settings, stems_dir: Path, path: Path, rebuild: bool, share: tuple[int, int], ray: RayOptions | None
) -> FeaturesSummary:
    """Fills the store at `path` with the descriptors of the clips in `stems_dir`, as far as they are in the share."""
    chosen, (shard_index, num_shards) = settings.features, share
    device = resolve_device(chosen.device)
    cache = open_shards(settings, stems_dir)
    shards = [shard for shard in cache.shards if shard.shard % num_shards == shard_index]
    place = place_of_features(settings, path)
    with refusals_told(place.folder), ShardLocks(place.folder, "mixstyle features") as locks:
        with locks.mutex():
            store = _fresh_store(place, cache, device, rebuild, num_shards > 1, locks)
            _forget_damaged(store, shards, locks)
            # those on a cluster claim theirs one by one
            todo = _taken_shards(store, shards, locks) if ray is None else _undone(store, shards)
        started = time.monotonic()
        if ray is None:
            computed = fill(store, cache, todo, device, chosen.batch_clips, chosen.workers)
        else:
            todo, computed = fill_on_ray(ray, settings, store, cache, todo, device)
        elapsed_s = max(time.monotonic() - started, 1e-9)
        with locks.mutex():
            store.refresh()
            if store.complete and (todo or store.stored_statistics() is None):
                store.write_statistics(*store.statistics())
    summary = _summary(store, cache, len(todo), computed / elapsed_s)
    _tell(summary, cache, settings)
    return summary


def _forget_damaged(store: FeatureStore, share: Sequence[ShardInfo], locks: ShardLocks) -> None:
    """Has shards of the share made again whose rows are not what was written."""
    wanted = {shard.shard for shard in share}
    for shard, why in store.damaged_shards().items():
        if shard in wanted and locks.take([shard]):
            remark(f"features: {store.name}: shard {shard} is damaged ({why}); it is computed again")
            store.forget_shard(shard)


def _taken_shards(store: FeatureStore, share: Sequence[ShardInfo], locks: ShardLocks) -> list[ShardInfo]:
    """Shards of the share that are not done, as far as no other process is at them."""
    wanted = _undone(store, share)
    mine = set(locks.take(shard.shard for shard in wanted))
    if wanted and not mine:
        raise locks.refusal()
    done = store.done  # again: what was done meanwhile is nobody's any more
    return [shard for shard in wanted if shard.shard in mine and not done[shard.shard]]


def _undone(store: FeatureStore, share: Sequence[ShardInfo]) -> list[ShardInfo]:
    """Shards of the share that are not done."""
    done = store.done
    return [shard for shard in share if not done[shard.shard]]


def _summary(store: FeatureStore, cache: StemCache, shards_computed: int, clips_per_s: float) -> FeaturesSummary:
    done = store.done
    there = np.isfinite(store.values()).all(axis=1)
    in_done = np.repeat(done, store.rows_per_shard)[: store.n_rows]
    return FeaturesSummary(
        Path(store.name),
        store.n_shards,
        shards_computed,
        cache.n_shards - len(cache.shards),
        sum(not done[shard.shard] for shard in cache.shards),
        int((there & in_done).sum()),
        int((~there & in_done).sum()),
        clips_per_s,
        clips_per_s * cache.clip_frames / SAMPLE_RATE,
    )


def _tell(summary: FeaturesSummary, cache: StemCache, settings: Settings) -> None:
    clips = counted(summary.clips, "clip")
    done = f"features: {clips} with {len(DESCRIPTORS)} descriptors in {shown(summary.features_path)}"
    failed = f", {summary.clips_failed} without (their reasons are in the store)" if summary.clips_failed else ""
    rate = f"; {summary.times_real_time:.0f} x real time"
    left = summary.shards_waiting or summary.shards_elsewhere
    say(done + failed + (rate if summary.shards_computed else "" if left else "; nothing was left to do"))
    if summary.shards_waiting:
        say(
            f"features: {summary.shards_waiting} of {summary.shards} shards of {cache.name} are not "
            f"separated yet; first run: {completed(('separate',), settings)}"
        )
    if summary.shards_elsewhere:
        say(f"features: {summary.shards_elsewhere} of {summary.shards} shards are left to other processes")


def _fresh_store(
    place: Place, cache: StemCache, device: torch.device, rebuild: bool, shared: bool, locks: ShardLocks
) -> FeatureStore:
    """The store, made where there is none and with `rebuild`; else one that does not fit or is damaged is refused.

    shared: other processes fill it too, and were given `rebuild` as well. To be called behind the mutex.
    """
    place.refresh()
    if is_begun_at(place):
        try:
            store = FeatureStore.open(place, write=True)
            store.check_keys()
            wrong = stale_reasons(store, cache)
            trouble = f"was made from other stems or descriptors ({'; '.join(wrong)})" if wrong else ""
        except MixstyleError as error:
            if not rebuild or error.code == "wrong-file":  # somebody's own files, which are not ours to delete
                raise
        else:
            if not trouble and (shared or not rebuild):
                return store
            if not rebuild:
                raise MixstyleError(
                    f"{place.name}: {trouble}; undo the change, or", code="stale", remedy=("features", "--rebuild")
                )
        with locks.all():  # nobody is filling it
            place.clear()
            forget_mixed_at(place, MACHINES)
    kernel = {KERNEL: KERNEL_NAME} if kernel_of(None, device) else {}
    drop_scratch(place.folder, alone=locks.guards)
    return FeatureStore.create(
        place,
        descriptors=DESCRIPTORS,
        descriptors_version=DESCRIPTORS_VERSION,
        keys=_keys(cache),
        rows_per_shard=cache.rows_per_shard,
        made_with={**provenance_of(cache).flat, **kernel},
    )


def is_begun_at(place: Place) -> bool:
    """Whether something is at the place of a store, by its last look; an empty folder is left by a profile without a
    bank. Behind a URL there is nothing before all of a store's metadata are there."""
    folder = place.folder
    return place.foreign or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir())))


def _keys(cache: StemCache) -> RowKeys:
    """Clip ids, track ids, paths and splits of all rows: as the shards tell, or the manifest until all are there."""
    if cache.complete:
        tracks = [(track["track_id"], track["path"], track["split"]) for s in cache.shards for track in s.tracks]
    else:
        manifest = load_manifest(cache.stems_dir / MANIFEST)
        tracks = [(track.track_id, track.path, track.split) for track in manifest.tracks] if manifest else []
    if len(tracks) != cache.n_tracks:
        raise MixstyleError(
            f"{cache.name}: its manifest ({MANIFEST}) is missing or belongs to other music",
            code="step-missing",
            remedy=("separate",),
        )
    rows = [(*track, slot) for track in tracks for slot in range(cache.clips_per_track)]
    return RowKeys(
        clip_id=[f"{track_id}_{slot}" for track_id, _, _, slot in rows],
        track_id=[track_id for track_id, _, _, _ in rows],
        path=[_utf8(path) for _, path, _, _ in rows],
        split=[split for _, _, split, _ in rows],
    )


def _utf8(text: str) -> str:
    """Names on disk may be no UTF-8; the store's text is."""
    return text.encode("utf-8", "backslashreplace").decode()


def fill(
    store: FeatureStore,
    cache: StemCache,
    todo: Sequence[ShardInfo],
    device: torch.device,
    batch_clips: int,
    workers: int,
) -> int:
    """Computes and writes shards, one after the other; how many clips that were."""
    tracks_of: dict[int, list[CachedTrack]] = {shard.shard: [] for shard in todo}
    for track in cache.tracks:
        if track.shard in tracks_of:
            tracks_of[track.shard].append(track)
    total = sum(len(track.clips) for tracks in tracks_of.values() for track in tracks)
    if not todo:
        return 0
    describer = _Describer(cache, device, _kernel(store, device))
    with progress("features", total, "clips") as bar, describer.pool(workers) as pool:
        # The pool runs ahead over the ends of shards too, so that no thread waits while a shard is written.
        values = _ahead(pool, describer, _batches(cache, todo, tracks_of, batch_clips), 2 * workers)
        for shard in todo:
            clips = [clip for track in tracks_of[shard.shard] for clip in track.clips]
            if not clips:
                deque(verified_tracks(cache, shard, ()), maxlen=0)
            computed = []
            for _ in range(0, len(clips), batch_clips):
                computed.append(next(values))
                bar.advance(len(computed[-1]))
            store.write_shard(shard.shard, _rows(store, cache, shard, clips, computed))
    return total


def _batches(
    cache: StemCache, shards: Sequence[ShardInfo], tracks_of: Mapping[int, list[CachedTrack]], batch_clips: int
) -> Iterator[list[Encoded]]:
    """The clips of shards as they stream by, in batches that end with a shard.

    A shard's last batch comes after the whole tar was verified, so that no row of a damaged one is written.
    """
    for shard in shards:
        last, batch = [], []
        for track, flacs in verified_tracks(cache, shard, tracks_of[shard.shard]):
            for clip in track.clips:
                batch.append((clip, flacs[clip.row]))
                if len(batch) == batch_clips:
                    if last:
                        yield last
                    last, batch = batch, []
        yield from (part for part in (last, batch) if part)


class _Describer:
    """Decodes a batch of clips and describes it, in the pool's threads.

    On a CPU each thread computes with one thread of torch's: batches side by side keep all cores at work, while
    threads inside an operation would fight with those that decode; and the values depend on no number of cores.
    """

    def __init__(self, cache: StemCache, device: torch.device, kernel: MeasureKernel | None) -> None:
        self._cache, self._device, self._kernel = cache, device, kernel
        # One batch at a time on a GPU, whose memory is not shared out by the number of threads here.
        self._turn = contextlib.nullcontext() if device.type == "cpu" else threading.Lock()

    @contextlib.contextmanager
    def pool(self, workers: int) -> Iterator[ThreadPoolExecutor]:
        """Threads for `self`; torch's own threads are as before afterwards."""
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                yield pool
        finally:
            torch.set_num_threads(before)

    def __call__(self, clips: Sequence[Encoded]) -> NDArray[np.float32]:
        """Descriptors [n, D] of n clips."""
        with torch.inference_mode():
            if self._kernel is not None:  # gives equal bits for clips alone, which then need not be copied together
                return np.concatenate([self._of(self._cache.decode(clip, flac)[None]) for clip, flac in clips])
            return self._of(np.stack([self._cache.decode(clip, flac) for clip, flac in clips]))

    def _of(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Descriptors [n, D] of stems [n, 4, 2, T]."""
        stems = torch.from_numpy(clips)
        with self._turn:
            return describe(stems.to(self._device), kernel=self._kernel).cpu().numpy()


def _ahead(
    pool: ThreadPoolExecutor, describer: _Describer, batches: Iterable[Sequence[Encoded]], depth: int
) -> Iterator[NDArray[np.float32]]:
    """Descriptors of batches, in order, with at most `depth` of them in the pool's hands.

    Where no further batch can be read, those that were come first, and then the error.
    """
    waiting: deque[Future[NDArray[np.float32]]] = deque()
    left = iter(batches)
    error: MixstyleError | None = None
    try:
        while True:
            try:
                batch = next(left, None)
            except MixstyleError as found:
                error = found
                break
            if batch is None:
                break
            waiting.append(pool.submit(describer, batch))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if error is not None:
            raise error
    finally:
        for future in waiting:
            future.cancel()


def _rows(
    store: FeatureStore,
    cache: StemCache,
    shard: ShardInfo,
    clips: Sequence[CachedClip],
    values: Sequence[NDArray[np.float32]],
) -> ShardRows:
    """A shard's rows: what was computed in its places, NaN and the reason for clips that failed."""
    place = store.shard_rows(shard.shard)
    n = place.stop - place.start
    table = np.full((n, len(DESCRIPTORS)), np.nan, np.float32)
    start_s, reason = np.full(n, np.nan), ["not in the shard"] * n
    for index, track in enumerate(shard.tracks):
        for slot, clip in enumerate(track["clips"]):
            row = index * cache.clips_per_track + slot
            reason[row] = _utf8(clip["reason"])
            if clip["start_frame"] is not None:
                start_s[row] = clip["start_frame"] / SAMPLE_RATE
    for clip, row in zip(clips, np.concatenate(values) if values else (), strict=True):
        index = clip.row - place.start
        if np.isfinite(row).all():
            table[index] = row
        else:
            reason[index] = "descriptors: not finite"
    return ShardRows(table, start_s, reason, shard.sha256)
