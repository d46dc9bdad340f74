"""Clips of an evaluation that go through a mix: rendered, summed and separated again, once for any number of encoders.

A bank is a folder of `evaluate.bank_dir`, with a track a clip, in the order of the part's items
(`mixstyle.stages.remix.bank`). Its name tells what it was made from, so that banks of other music, separators or chains
are beside it.
"""

from functools import partial
from pathlib import Path

import numpy as np

from mixstyle.cache.stem_store.place import stems_place
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import Provenance
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.mixing.effects import effect_versions
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.stages.evaluate.provenance import separator_hash
from mixstyle.stages.evaluate.tasks.task import Item, Items, Part
from mixstyle.stages.remix.bank import fill_bank
from mixstyle.stages.remix.mixes import AudioDonor, Group, Mix
from mixstyle.stages.settings.places import open_shards
from mixstyle.stages.settings.profile import Settings

GROUPS_PER_SHARD = 64
SPLIT = "test"
"""Of a bank's tracks: no bank of an evaluation is for training."""


class EvaluationBanks:
    """The banks of an evaluation. rebuild: makes those again that were made otherwise, such as on another device."""

    def __init__(self, settings: Settings, rebuild: bool = False) -> None:
        self._settings, self._rebuild = settings, rebuild
        self._filled: dict[str, tuple[StemCache, Items]] = {}

    def of(self, cache: StemCache, part: Part) -> tuple[StemCache, Items]:
        """The bank of a part, which is filled the first time, and its clips as items, in the part's order.

        A clip that is silent through the mix is an item of silence. Raises MixstyleError as `fill_bank` does.
        """
        if part.name in self._filled:
            return self._filled[part.name]
        groups = [_group(part.name, place, item, cache) for place, item in enumerate(part.items)]
        frames = part.items[0].frames
        where, train = self.folder(cache, part), self._settings.train
        filled = fill_bank(
            stems_place(where, train.stems_cache_dir),
            groups,
            cache,
            self._settings.separate,
            clip_s=frames / SAMPLE_RATE,
            groups_per_shard=GROUPS_PER_SHARD,
            stage="evaluate",
            rebuild=self._rebuild,
            read=lambda: open_shards(self._settings, where),
        )
        found = {track.path: track.clips[0] for track in filled.tracks}
        silence = np.zeros((len(STEMS), 2, frames), np.float32)
        self._filled[part.name] = filled, tuple(Item(found.get(group.path, silence)) for group in groups)
        return self._filled[part.name]

    def folder(self, cache: StemCache, part: Part) -> Path:
        """Where the part's bank is; a URL as a path, where `evaluate.bank_dir` is one."""
        made_from = {
            "stems": cache.fingerprint,
            "separator": separator_hash(self._settings),
            "effects": chain_versions(effect_versions()),
        }
        provenance = Provenance("evaluate", {"items": [item.to_json() for item in part.items]}, made_from=made_from)
        return self._settings.evaluate.bank_dir / f"{part.name}-{provenance.fingerprint}"


def _group(name: str, place: int, item: Item, cache: StemCache) -> Group:
    """One clip. It is rendered by the item, whose steps may be none of mixstyle's own."""
    donor = AudioDonor(fingerprint(item.to_json()), partial(item.render, cache))
    mix = Mix((donor,) * len(STEMS), content=place)
    return Group(name, place, 0, SPLIT, (mix,), notes={"item": item.to_json()})
