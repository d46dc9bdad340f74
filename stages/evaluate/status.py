"""What `mixstyle status` tells of the evaluation."""

import dataclasses
import functools
from typing import TYPE_CHECKING

from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.stage_status import StageStatus, made_at, not_opened
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import evaluation_folder, with_trained

if TYPE_CHECKING:
    from mixstyle.cache.stem_store.stem_cache import StemCache


def evaluate_status(settings: Settings, cache: "StemCache | None") -> StageStatus:
    """Which tasks are measured, and whether it is of what is there. cache: None with nothing to compare with."""
    options, status = settings.evaluate, functools.partial(StageStatus, "evaluate", optional=True)
    kept, damaged = evaluation_folder(settings, to_read=True), list[str]()
    try:
        kept.fetch(SETTINGS, "metrics.json", left_out=damaged)
    except MixstyleError as error:
        return dataclasses.replace(not_opened("evaluate", error), optional=True)
    folder = kept.folder
    if not (folder / SETTINGS).is_file():
        if damaged:
            return status("damaged", problems=tuple(damaged), run="mixstyle evaluate --rebuild")
        return status("not started", run="mixstyle evaluate")
    # only where there is an evaluation: the tasks bring libraries that take long to import
    from mixstyle.cache.storage.atomic import read_json
    from mixstyle.stages.common.chosen_encoder import chosen_checkpoints
    from mixstyle.stages.evaluate.provenance import METRICS, changes, provenance_of
    from mixstyle.stages.evaluate.tasks.registry import TASKS

    asked = [name for name in dict.fromkeys(options.tasks) if _is_possible(name, settings)]
    measured: list[str] = []
    done = "no task is measured yet"
    path = folder / METRICS
    try:
        if path.is_file():
            metrics = read_json(path)
            measured = [name for name in asked if TASKS[name].key in metrics]
            done = f"{made_at(kept, METRICS)}{len(measured)} of {len(asked)} tasks, {metrics['songs']} held-out songs"
    except (MixstyleError, KeyError, TypeError) as error:
        return status("damaged", problems=(f"{path}: {error}",), run="mixstyle evaluate --rebuild")
    try:
        if not options.checkpoints:
            settings = with_trained(settings, "best_model.pt")
        checkpoints = chosen_checkpoints(
            options.checkpoints, settings.train.checkpoint_dir, settings.train.stems_cache_dir
        )
    except MixstyleError as error:
        return status("cannot be read", done, (told(error),))
    missing = next((path for path in checkpoints if not path.is_file()), None)
    if cache is None or missing is not None:
        why = "there are no stems" if cache is None else f"{missing}: no such checkpoint"
        problems, changed = (*damaged, f"could not be compared with the settings: {why}"), []
    else:
        try:
            problems, changed = tuple(damaged), changes(folder, provenance_of(settings, cache, checkpoints))
        except MixstyleError as error:
            return status("damaged", done, (told(error),), "mixstyle evaluate --rebuild")
    if changed:
        # other inputs and versions are measured again by themselves, other settings are refused without --rebuild
        refused = any(line.startswith("evaluate.") for line in changed)
        run = "mixstyle evaluate --rebuild" if refused else "mixstyle evaluate"
        return status("stale", done, (f"changed since: {'; '.join(changed)}",), run)
    left = [name for name in asked if name not in measured]
    if left:
        return status("partly done", done, (*problems, f"left: {', '.join(left)}"), "mixstyle evaluate")
    return status("done", done, problems)


def _is_possible(name: str, settings: Settings) -> bool:
    """Whether a task is measured when it is asked for: without a separator some are left out."""
    from mixstyle.stages.evaluate.tasks.registry import TASKS

    return settings.separate.input != "stems" or not TASKS[name].separates
