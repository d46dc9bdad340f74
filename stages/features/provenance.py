"""What descriptors were made from, and why they do not fit the stems that are there. Without torch, for `status`."""

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import RENAMED, StemCache
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import Provenance, differences, rename
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, DESCRIPTORS_VERSION

KERNEL = "descriptor_kernel"
"""In a store's `made_with`: what measured its clips, where that is not torch's own code. No reason to make it again."""


def provenance_of(cache: StemCache) -> Provenance:
    """What every row of the store depends on: the settings behind the stems, and the descriptors."""
    columns = {"names": [d.name for d in DESCRIPTORS], "units": [d.unit for d in DESCRIPTORS]}
    return Provenance(
        "features",
        settings={_made_by(cache): cache.settings},
        versions={"descriptors_version": DESCRIPTORS_VERSION},
        made_from={"descriptors_columns": fingerprint(columns)},
    )


def _made_by(cache: StemCache) -> str:
    """The command that made the clips; settings behind them are under its name."""
    return "remix" if cache.provenance.stage == "remix" else "separate"


def _stored(store: FeatureStore) -> Provenance:
    """What the store was made with, under the names that separate's settings have now."""
    stored = {name: value for name, value in store.made_with.items() if name != KERNEL}
    behind = {name: rename(stored[name], RENAMED) for name in ("separate", "remix") if name in stored}
    return Provenance("features", {**stored, **behind})


def stale_reasons(store: FeatureStore, cache: StemCache) -> list[str]:
    """Why a store does not fit the stems that are there now: settings that changed, else shards with other bytes."""
    changed = differences(_stored(store), provenance_of(cache))
    if changed:
        return [line.removeprefix("features.") for line in changed]
    known = store.shard_sha256
    return [
        f"{shard.tar.name} holds other stems now"
        for shard in cache.shards
        if known[shard.shard] and known[shard.shard] != shard.sha256
    ]
