"""Clips of an evaluation that go through a mix: rendered, summed and separated again, once for any number of encoders.

A bank is a folder of stems in `mixstyle separate`'s format with a track a clip, in the order of the part's items.
"""

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip, read_shard, write_shard
from mixstyle.cache.stem_store.stem_cache import SETTINGS, StemCache
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import chain_versions
from mixstyle.pipeline.mixing.effects import effect_versions
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.common.progress import progress
from mixstyle.stages.evaluate.tasks.task import Part
from mixstyle.stages.settings.profile import Settings

CLIPS_PER_SHARD = 64
BANK_VERSION = 1


class EvaluationBanks:
    """The banks of an evaluation, a folder each in `evaluate.bank_dir`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def separator(self) -> Separator:
        """That of the settings; also where the stems are given: what a user brings is a mix."""
        chosen = self._settings.separate
        return load_separator(
            shipped(chosen.separator_config),
            shipped(chosen.separator_checkpoint),
            resolve_device(self._settings.evaluate.device),
            chosen.precision,
            num_overlap=chosen.num_overlap,
        )

    def of(self, cache: StemCache, part: Part) -> StemCache:
        items = [item.to_json() for item in part.items]
        digest = hashlib.sha256(json.dumps(items, sort_keys=True).encode()).hexdigest()[:16]
        frames = part.items[0].frames
        made_with = {
            "clip_s": frames / SAMPLE_RATE,
            "clips_per_track": 1,
            "tracks_per_shard": CLIPS_PER_SHARD,
            "tracks": len(items),
        }
        inputs = {
            "items": digest,
            "stems": cache.fingerprint,
            "separator": self.separator.fingerprint,
            "effect_versions": chain_versions(effect_versions()),
        }
        provenance = Provenance("evaluate", made_with, {"bank": BANK_VERSION}, inputs)
        folder = self._settings.evaluate.bank_dir / f"{part.name}-{provenance.fingerprint}"
        with locked(folder, "mixstyle evaluate"):
            guard(folder / SETTINGS, provenance, rebuild=True)
            self._fill(folder, cache, part, provenance.fingerprint)
        return StemCache(folder)

    def _fill(self, folder: Path, cache: StemCache, part: Part, made_with: str) -> None:
        shards = -(-len(part) // CLIPS_PER_SHARD)
        left = [k for k in range(shards) if read_shard(folder, k) is None]
        with progress(f"evaluate: {part.name} through the mix", len(left), "shards") as bar:
            for number in left:
                write_shard(folder, number, self._records(cache, part, number), made_with)
                bar.advance()

    def _records(self, cache: StemCache, part: Part, number: int) -> Iterator[TrackRecord]:
        first = number * CLIPS_PER_SHARD
        items = part.items[first : first + CLIPS_PER_SHARD]
        with ThreadPoolExecutor(2) as pool:
            mixtures = list(pool.map(lambda item: torch.from_numpy(item.render(cache).sum(0)), items))
        for place, (item, stems) in enumerate(zip(items, self.separator.separate(mixtures), strict=True), first):
            flac, scale = encode_clip(np.asarray(stems))
            track = hashlib.sha256(f"{part.name}/{place}".encode()).hexdigest()[:12]
            clip = ClipRecord(f"{track}_0", 0, 0, scale, flac)
            yield TrackRecord(track, f"{part.name}/{place:06d}", "test", (clip,), source={"item": item.to_json()})
