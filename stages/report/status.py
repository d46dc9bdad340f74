"""What `mixstyle status` tells of the report."""

from datetime import datetime
from typing import TYPE_CHECKING

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.stage_status import StageStatus
from mixstyle.stages.settings.kept import with_trained
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.features_store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache

INPUTS = {"checkpoint": "the checkpoint", "stems": "the stems", "features": "the descriptors"}


def report_status(settings: Settings, cache: "StemCache | None", store: "FeatureStore | None") -> StageStatus:
    """What the report says, and whether it is of what is there. cache, store: None with nothing to compare with."""
    from mixstyle.cache.storage.atomic import read_json
    from mixstyle.cache.storage.provenance import differences, read_provenance
    from mixstyle.stages.report.provenance import METRICS, SETTINGS, provenance_of

    folder = settings.report.report_dir
    metrics_path = folder / METRICS
    if not metrics_path.is_file() or not (folder / SETTINGS).is_file():
        return StageStatus("report", "not started", run="mixstyle report")
    made = datetime.fromtimestamp(metrics_path.stat().st_mtime).astimezone()
    try:
        found = read_json(metrics_path)["retrieval"]
        numbers = ", ".join(f"{row} {100 * found[row]['top1']:.1f}%" for row in ("trained", "raw", "untrained"))
        done = f"{made:%Y-%m-%d %H:%M}; top-1 of {found['pool']} songs: {numbers}"
        stored = read_provenance(folder / SETTINGS)
    except (MixstyleError, KeyError, TypeError) as error:
        return StageStatus("report", "damaged", problems=(f"{metrics_path}: {error}",), run="mixstyle report")
    try:
        now = provenance_of(with_trained(settings, "best_model.pt"), cache, store) if cache and store else stored
    except MixstyleError as error:  # the checkpoint is gone
        return StageStatus("report", "stale", done, (error.message,), "mixstyle report")
    if changed := differences(stored, now, told=INPUTS):
        return StageStatus("report", "stale", done, (f"changed since: {', '.join(changed)}",), "mixstyle report")
    return StageStatus("report", "done", done)
