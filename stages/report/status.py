"""What `mixstyle status` tells of the report."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.stage_status import StageStatus, made_at, not_opened
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import report_folder

if TYPE_CHECKING:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache

INPUTS = {"checkpoint": "the checkpoint", "stems": "the stems", "features": "the descriptors"}


def report_status(settings: Settings, cache: "StemCache | None", store: "FeatureStore | None") -> StageStatus:
    """What the report says, and whether it is of what is there. cache, store: None with nothing to compare with."""
    from mixstyle.cache.storage.atomic import read_json
    from mixstyle.cache.storage.provenance import SETTINGS, differences, read_provenance
    from mixstyle.stages.report.provenance import METRICS, provenance_of, with_reported

    kept, damaged = report_folder(settings, to_read=True), list[str]()
    try:
        kept.fetch(SETTINGS, METRICS, left_out=damaged)
    except MixstyleError as error:
        return not_opened("report", error)
    folder = kept.folder
    metrics_path = folder / METRICS
    if not metrics_path.is_file() or not (folder / SETTINGS).is_file():
        state = "damaged" if damaged else "not started"
        return StageStatus("report", state, problems=tuple(damaged), run="mixstyle report")
    try:
        found = read_json(metrics_path)["retrieval"]
        numbers = ", ".join(f"{row} {100 * found[row]['top1']:.1f}%" for row in ("trained", "raw", "untrained"))
        done = f"{made_at(kept, METRICS)}top-1 of {found['pool']} songs: {numbers}"
        stored = read_provenance(folder / SETTINGS)
    except (MixstyleError, KeyError, TypeError) as error:
        return StageStatus("report", "damaged", problems=(f"{metrics_path}: {error}",), run="mixstyle report")
    try:
        now = provenance_of(with_reported(settings), cache, store) if cache and store else stored
    except MixstyleError as error:
        if error.code == "remote":
            return StageStatus("report", "cannot be read", done, (error.message,))
        return StageStatus("report", "stale", done, (error.message,), "mixstyle report")  # the checkpoint is gone
    if changed := differences(stored, now, told=INPUTS):
        return StageStatus("report", "stale", done, (f"changed since: {', '.join(changed)}",), "mixstyle report")
    return StageStatus("report", "done", done, tuple(damaged))
