"""What `mixstyle status` tells of the descriptors."""

import dataclasses
from typing import TYPE_CHECKING

from mixstyle.cache.feature_store.place import features_place
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.stage_status import StageStatus, helping, not_opened
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache
    from mixstyle.cache.storage.place import Place


_ORDER = ("done", "not started", "partly done", "stale", "cannot be read", "damaged")
"""States, the worst last."""
_AGAIN = "mixstyle features --rebuild"


def features_status(
    settings: Settings, cache: "StemCache | None", bank: "StemCache | None" = None
) -> "tuple[FeatureStore | None, StageStatus]":
    """The store, None where there is none that can be read, and how far it and the bank's are.

    cache, bank: the stems and the bank's clips that are there, None where there are none to compare with.
    """
    copies = settings.train.stems_cache_dir
    store, own = _store_status(features_place(settings.features.features_path, copies), cache)
    if not settings.remix.blocks:
        return store, own
    _, mixed = _store_status(features_place(settings.remix.features_path, copies), bank)
    worst = max(own, mixed, key=lambda found: _ORDER.index(found.state))
    if {own.state, mixed.state} == {"done", "not started"}:
        worst = dataclasses.replace(worst, state="partly done")
    done = "; ".join(part for part in (own.done, mixed.done and f"of the bank {mixed.done}") if part)
    return store, dataclasses.replace(worst, done=done, problems=(*own.problems, *mixed.problems))


def _store_status(place: "Place", cache: "StemCache | None") -> "tuple[FeatureStore | None, StageStatus]":
    """One store, and how far it is."""
    folder = place.folder
    try:
        place.refresh()
    except MixstyleError as error:
        return None, not_opened("features", error)
    if not place.foreign and (not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))):
        return None, StageStatus("features", "not started", run="mixstyle features")
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.stages.features.provenance import stale_reasons

    try:
        store = FeatureStore.open(place)
        shards = store.done
        done = f"{counted(int(shards.sum()), 'shard', of=len(shards))}, {len(store.names)} descriptors"
        stale = stale_reasons(store, cache) if cache else []
        damaged = store.damaged_shards()
    except MixstyleError as error:
        return None, StageStatus("features", "damaged", problems=(told(error),), run=helping(error, _AGAIN))
    if stale:
        problem = f"made from other stems or descriptors: {'; '.join(stale)}"
        return store, StageStatus("features", "stale", done, (problem,), _AGAIN)
    if damaged:
        problems = tuple(f"{place.name}: shard {shard} is damaged ({why})" for shard, why in damaged.items())
        return store, StageStatus("features", "damaged", done, problems, "mixstyle features")
    if not shards.all():
        return store, StageStatus("features", "partly done", done, run="mixstyle features")
    return store, StageStatus("features", "done", done)
