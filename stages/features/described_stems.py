"""Opens the cached stems together with the descriptors that `mixstyle features` made of them."""

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.profile import Settings


def open_described_stems(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The stems and their descriptors, both finished and belonging together; else MixstyleError says what to run."""
    train = settings.train
    if train.stems_url:
        cache: StemCache = RemoteStemCache(train.stems_url, train.stems_cache_dir, 1e9 * train.stems_cache_gb)
    else:
        cache = StemCache(settings.separate.stems_dir)
    if not cache.complete:
        raise MixstyleError(
            f"{cache.stems_dir}: {len(cache.shards)} of {cache.n_shards} shards are there; to finish them,",
            code="step-missing",
            remedy=("separate",),
        )
    store = FeatureStore.open(settings.features.features_path)
    if not store.complete or store.shard_sha256 != [shard.sha256 for shard in cache.shards]:
        raise MixstyleError(
            f"{store.path}: does not hold the descriptors of all stems in {cache.stems_dir}",
            code="step-missing",
            remedy=("features",),
        )
    return cache, store
