"""Embeddings of cached clips for the report: by the trained encoder and by one that never learned anything."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.cache.stem_store.stem_cache import CachedClip, StemCache
from mixstyle.pipeline.encoder.embed_clips import embed_with_each
from mixstyle.pipeline.encoder.encoder import DESCRIPTOR_LIMIT, untrained_like
from mixstyle.pipeline.encoder.levels import gains_db, levelled_descriptors
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.progress import progress


@dataclass(frozen=True)
class Embeddings:
    """What three ways to look at a clip say of the same N clips."""

    trained: NDArray[np.float32]
    """[N, E]."""
    untrained: NDArray[np.float32]
    """[N, E]: the same architecture with random weights."""
    raw: NDArray[np.float32]
    """[N, D]: descriptors as the encoder gets them, (d - center) / scale within +-5."""


def embed(
    cache: StemCache,
    store: FeatureStore,
    loaded: LoadedEncoder,
    clips: Sequence[CachedClip],
    *,
    device: torch.device,
    batch_clips: int,
    workers: int,
) -> Embeddings:
    """Embeds whole clips, in their order, with the descriptors that the store holds of them.

    As everywhere in use, clips are embedded whole, or in parts with descriptors of their own if the encoder has
    `part_s`. float32 throughout.
    """
    descriptors = store.rows([clip.row for clip in clips])
    encoders = (loaded.encoder, untrained_like(loaded.encoder).to(device))
    found: list[list[NDArray[np.float32]]] = []
    with progress("embedding", len(clips), "clips") as bar:
        start = 0
        for stems in _batches(cache, clips, batch_clips, workers):
            conditions = torch.from_numpy(descriptors[start : start + len(stems)]).to(device)
            both = embed_with_each(
                encoders, loaded.mel, torch.from_numpy(stems).to(device), conditions, describe=describe
            )
            found.append([embeddings.cpu().numpy() for embeddings in both])
            start += len(stems)
            bar.advance(len(stems))
    target = loaded.encoder.config.input_lufs
    if target is not None:  # as the encoder gets them
        given = torch.from_numpy(descriptors)
        descriptors = levelled_descriptors(given, gains_db(given, target)).numpy()
    center = loaded.encoder.descriptor_center.cpu().numpy()
    scale = loaded.encoder.descriptor_scale.cpu().numpy()
    raw = np.clip((descriptors - center) / scale, -DESCRIPTOR_LIMIT, DESCRIPTOR_LIMIT).astype(np.float32)
    trained, untrained = (np.concatenate(rows) for rows in zip(*found, strict=True))
    return Embeddings(trained, untrained, raw)


def _batches(
    cache: StemCache, clips: Sequence[CachedClip], batch_clips: int, workers: int
) -> Iterator[NDArray[np.float32]]:
    """Stems [n, 4, 2, T] of the clips, in order, read by threads one batch ahead."""
    waiting: deque[Future[NDArray[np.float32]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(clips), batch_clips):
            while len(waiting) < 2 * batch_clips and start + len(waiting) < len(clips):
                waiting.append(pool.submit(cache.read_clip, clips[start + len(waiting)]))
            n = min(batch_clips, len(clips) - start)
            yield np.stack([waiting.popleft().result() for _ in range(n)])
