"""Makes the spectrograms of a bank's clips once, where training is to read them instead of stems."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import mel_settings
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.locks import locked
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.encoder.distributed import world
from mixstyle.pipeline.encoder.levels import gains_db, levelled
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.encoder.versions import SPECTROGRAMS_VERSION
from mixstyle.stages.common.progress import progress
from mixstyle.stages.settings.train import TrainSettings

COMMAND = "mixstyle train"


def kept_mels(options: TrainSettings, cache: StemCache, store: FeatureStore, mel: StemMel, fill: bool) -> MelStore:
    """The spectrograms of all complete groups of a bank, levelled as the encoder takes them; `fill` makes missing ones.

    Raises MixstyleError ("in-use") where another process is making them.
    """
    made_with, folder = _made_with(options, cache, mel)
    found = MelStore.open_or_create(
        folder / "mels.zarr",
        made_with,
        rows=cache.n_rows,
        group_rows=cache.clips_per_track,
        shard_rows=cache.rows_per_shard,
        mels=mel.n_mels,
        frames=mel.frames(cache.clip_frames),
    )
    if fill and not found.done[[shard.shard for shard in cache.shards]].all():
        with locked(folder, COMMAND):
            _fill(found, options, cache, store, mel)
    return found


def check_no_other(options: TrainSettings, cache: StemCache, mel: StemMel) -> None:
    """Raises MixstyleError ("in-use") where another process is making the spectrograms. Writes nothing new."""
    folder = _made_with(options, cache, mel)[1]
    if folder.is_dir():
        with locked(folder, COMMAND):
            pass


def _made_with(options: TrainSettings, cache: StemCache, mel: StemMel) -> tuple[dict[str, Any], Path]:
    """What spectrograms follow from, and their folder."""
    made_with: dict[str, Any] = {"bank": cache.fingerprint, "mel": mel_settings(mel), "input_lufs": options.input_lufs}
    if SPECTROGRAMS_VERSION > 1:  # version 1 was not stored
        made_with["version"] = SPECTROGRAMS_VERSION
    return made_with, options.mels_dir / fingerprint(made_with)


def disk_bytes(cache: StemCache, mel: StemMel) -> int:
    """What the spectrograms of all clips take before they are compressed."""
    return cache.n_rows * 8 * mel.n_mels * mel.frames(cache.clip_frames) * 2


def _fill(found: MelStore, options: TrainSettings, cache: StemCache, store: FeatureStore, mel: StemMel) -> None:
    done, values = found.done, store.values()
    groups = [track for track in cache.tracks if len(track.clips) == cache.clips_per_track and not done[track.shard]]
    own = max(torch.get_num_threads(), 1)
    threads = own if world()[1] == 1 else usable_cores()  # the other ranks wait meanwhile

    def make(track: CachedTrack) -> np.ndarray:
        torch.set_num_threads(1)  # groups side by side keep all cores at work
        stems = torch.from_numpy(np.stack([cache.read_clip(clip) for clip in track.clips]))
        if options.input_lufs is not None:
            descriptors = torch.from_numpy(values[[clip.row for clip in track.clips]])
            stems = levelled(stems, gains_db(descriptors, options.input_lufs))
        with torch.inference_mode():
            return mel(stems).half().numpy()

    total = len(groups) * cache.clips_per_track
    with progress("spectrograms", total, "clips") as bar, ThreadPoolExecutor(threads) as pool:
        made = _ahead(pool, make, groups, 2 * threads)
        for shard in sorted({track.shard for track in groups} | {s.shard for s in cache.shards if not done[s.shard]}):
            for track in (track for track in groups if track.shard == shard):
                found.write_group(track.index * cache.clips_per_track, next(made))
                bar.advance(cache.clips_per_track)
            found.finish_shard(shard)
    torch.set_num_threads(own)


def _ahead(
    pool: ThreadPoolExecutor, make: Callable[[CachedTrack], np.ndarray], groups: list[CachedTrack], depth: int
) -> Iterator[np.ndarray]:
    """What `make` gives for groups in order, with at most `depth` of them in the pool's hands."""
    waiting: deque[Future[np.ndarray]] = deque()
    for group in groups:
        waiting.append(pool.submit(make, group))
        if len(waiting) >= depth:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
