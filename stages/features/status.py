"""What `mixstyle status` tells of the descriptors."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.stage_status import StageStatus
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.features_store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache


def features_status(settings: Settings, cache: "StemCache | None") -> "tuple[FeatureStore | None, StageStatus]":
    """The store, None where there is none that can be read, and how far it is.

    cache: the stems that are there, None where there are none to compare with.
    """
    path = settings.features.features_path
    if not path.exists():
        return None, StageStatus("features", "not started", run="mixstyle features")
    from mixstyle.cache.features_store import FeatureStore
    from mixstyle.stages.features.stage import stale_reasons

    try:
        store = FeatureStore.open(path)
        shards = store.done
        done = f"{int(shards.sum())} of {len(shards)} shards, {len(store.names)} descriptors"
        stale = stale_reasons(store, cache) if cache else []
    except MixstyleError as error:
        return None, StageStatus("features", "damaged", problems=(str(error),), run="mixstyle features --rebuild")
    if stale:
        problem = f"made from other stems or descriptors: {'; '.join(stale)}"
        return store, StageStatus("features", "stale", done, (problem,), "mixstyle features --rebuild")
    if not shards.all():
        return store, StageStatus("features", "partly done", done, run="mixstyle features")
    return store, StageStatus("features", "done", done)
