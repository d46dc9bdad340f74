"""What a report was made from: settings, checkpoint, stems and descriptors."""

from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.cache.storage.provenance import Provenance
from mixstyle.stages.common.trained import check_checkpoint
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.features_store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache

SETTINGS, METRICS = "settings.json", "metrics.json"


def provenance_of(settings: Settings, cache: "StemCache", store: "FeatureStore") -> Provenance:
    """What a report follows from. Raises MixstyleError where there is no checkpoint."""
    path = checkpoint_of(settings)
    check_checkpoint(path, settings.train.checkpoint_dir)
    inputs = {"checkpoint": sha256_file(path)[:16], "stems": cache.fingerprint, "features": store.fingerprint}
    return Provenance("report", shaping(settings.report), made_from=inputs)


def checkpoint_of(settings: Settings) -> Path:
    """The checkpoint that is reported on."""
    from mixstyle.cache.models.checkpoints import BEST  # brings torch, which `status` may do without

    return settings.report.checkpoint or settings.train.checkpoint_dir / BEST
