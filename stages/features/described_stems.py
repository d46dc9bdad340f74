"""Opens the cached stems together with the descriptors that `mixstyle features` made of them."""

from pathlib import Path

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.urls import without_file_scheme
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.stage_status import is_begun
from mixstyle.stages.settings.places import open_shards, place_of_features
from mixstyle.stages.settings.profile import Settings

SMALL_BANK = 100
"""Blocks of a bank to begin with, where a profile has none."""


def open_described_stems(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The stems and their descriptors, both finished and belonging together; else MixstyleError says what to run."""
    train = settings.train
    if not train.stems_url:
        cache = open_shards(settings, settings.separate.stems_dir)
        return cache, _described(cache, settings, settings.features.features_path, "separate")
    remote = open_shards(settings, Path(without_file_scheme(train.stems_url)))
    if not remote.complete:
        raise MixstyleError(
            f"train.stems_url={train.stems_url}: {len(remote.shards)} of {remote.n_shards} shards are there; "
            "finish them on the machine that makes them, and copy the others there too",
            code="remote",
        )
    return remote, _described(remote, settings, settings.features.features_path, "separate")


def open_described_bank(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The bank and its descriptors, both finished and belonging together; else MixstyleError says what to run."""
    folder = settings.remix.remix_dir
    if not is_begun(folder):
        if settings.remix.blocks:
            raise MixstyleError(f"{folder}: no bank here yet", code="step-missing", remedy=("remix",))
        raise MixstyleError(
            f"train.objective={settings.train.objective} trains on a bank, and remix.blocks=0 makes none; "
            "for a small one,",
            code="step-missing",
            remedy=("remix", "--set", f"remix.blocks={SMALL_BANK}"),
        )
    cache = open_shards(settings, folder)
    return cache, _described(cache, settings, settings.remix.features_path, "remix")


def _described(cache: StemCache, settings: Settings, path: Path, made_by: str) -> FeatureStore:
    if not cache.complete:
        raise MixstyleError(
            f"{cache.name}: {len(cache.shards)} of {cache.n_shards} shards are there; to finish them,",
            code="step-missing",
            remedy=(made_by,),
        )
    store = FeatureStore.open(place_of_features(settings, path))
    if not store.complete or store.shard_sha256 != [shard.sha256 for shard in cache.shards]:
        raise MixstyleError(
            f"{store.name}: does not hold the descriptors of all stems in {cache.name}",
            code="step-missing",
            remedy=("features",),
        )
    if damaged := store.damaged_shards():
        shard, why = next(iter(damaged.items()))
        others = len(damaged) - 1
        told = f"shard {shard} of the descriptors is"
        if others:
            told = f"shard {shard} of the descriptors and {counted(others, 'other shard')} are"
        raise MixstyleError(
            f"{store.name}: {told} damaged ({why}); to compute them again,",
            code="damaged-file",
            remedy=("features",),
        )
    return store
