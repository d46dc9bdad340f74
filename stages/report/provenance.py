"""What a report was made from: settings, checkpoint, stems and descriptors."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.storage.provenance import Provenance
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.urls import url_of
from mixstyle.stages.common.chosen_encoder import check_checkpoint, checkpoint_hash
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import with_trained

if TYPE_CHECKING:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache

METRICS = "metrics.json"
BEST, LOSS = "best_model.pt", "loss.csv"
"""Of a training's folder; the modules that write them bring torch, which `status` may do without."""


def provenance_of(settings: Settings, cache: "StemCache", store: "FeatureStore") -> Provenance:
    """What a report follows from. Raises MixstyleError where there is no checkpoint."""
    path = checkpoint_of(settings)
    check_checkpoint(path, settings.train.checkpoint_dir)
    inputs = {"checkpoint": checkpoint_hash(path), "stems": cache.fingerprint, "features": store.fingerprint}
    return Provenance("report", shaping(settings.report), made_from=inputs)


def with_reported(settings: Settings) -> Settings:
    """The settings with files of this machine for the checkpoint that is reported on, and for the losses beside it.

    Raises MixstyleError where they cannot be had from the store.
    """
    named = settings.report.checkpoint
    if named is None:
        return with_trained(settings, BEST, LOSS)
    if not url_of(named):
        return settings
    file = fetched_file(named, settings.train.stems_cache_dir, LOSS)
    return replace(settings, report=replace(settings.report, checkpoint=file))


def checkpoint_of(settings: Settings) -> Path:
    """The checkpoint that is reported on."""
    return settings.report.checkpoint or settings.train.checkpoint_dir / BEST
