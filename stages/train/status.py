"""What `mixstyle status` tells of the training."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.storage.provenance import SETTINGS, differences, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.commands import completed, told
from mixstyle.stages.common.stage_status import StageStatus, not_opened
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import trained_folder

if TYPE_CHECKING:
    from mixstyle.cache.feature_store.store import FeatureStore
    from mixstyle.cache.stem_store.stem_cache import StemCache


def train_status(settings: Settings, cache: "StemCache | None", store: "FeatureStore | None") -> StageStatus:
    """How far the training is. cache, store: what it reads, None where there is nothing to compare with."""
    options = settings.train
    nothing = StageStatus("train", "not started", run="mixstyle train")
    kept, damaged = trained_folder(settings), list[str]()
    try:
        kept.fetch(SETTINGS, "latest.pt", "best_model.pt", "final_model.pt", left_out=damaged)
    except MixstyleError as error:
        return not_opened("train", error)
    folder = kept.folder
    if not folder.is_dir():
        return nothing
    from mixstyle.cache.models.checkpoints import BEST, FINAL, MADE_WITH, newest_checkpoint
    from mixstyle.stages.train.missing import best_again
    from mixstyle.stages.train.provenance import REBUILD, cannot_go_on, reads_bank

    newest, torn = newest_checkpoint(folder)
    torn = [*damaged, *torn]
    if newest is None and torn:
        problems = (*torn, cannot_go_on(folder))
        return StageStatus("train", "damaged", problems=problems, run="mixstyle train --rebuild")
    if newest is None:
        return nothing
    path, content = newest
    if reads_bank(options):
        cache, store = _bank(settings)
    step, total = content["step"], _total_steps(settings, cache)
    of = f" of {total}" if total else ""
    done = f"step {step}{of}, epoch {content['epoch']} of {options.num_epochs}, best loss {content['best_loss']:.4f}"
    problems = [f"skipped {line}" for line in torn]
    try:
        changed = _changed(settings, folder, cache, store)
    except MixstyleError as error:
        again = "" if content.get(MADE_WITH) else " --rebuild"  # the checkpoint may tell the same
        return StageStatus("train", "damaged", done, (*problems, told(error)), f"mixstyle train{again}")
    if changed:
        problems.append(f"trained with other settings or inputs: {'; '.join(changed)}")
        return StageStatus("train", "stale", done, tuple(problems), "mixstyle train --rebuild")
    ended = (folder / FINAL).is_file() and (total is None or step >= total)
    if math.isfinite(content["best_loss"]) and not (folder / BEST).is_file():
        source = best_again(folder, content["best_loss"])
        ended = ended and source is None  # the same command makes it again
        lost = f"no other checkpoint holds the same; to train again from the start, run: {completed(REBUILD, settings)}"
        problems.append(f"{folder / BEST} is gone; {f'{source.name} holds the same' if source else lost}")
    if ended:
        return StageStatus("train", "done", f"{done}, {path.name}", tuple(problems))
    return StageStatus("train", "partly done", f"{done}, {path.name}", tuple(problems), "mixstyle train")


def _changed(settings: Settings, folder: Path, cache: "StemCache | None", store: "FeatureStore | None") -> list[str]:
    """What the training of a folder was made with and is otherwise now. Inputs that are not finished cannot be
    compared: they count as the same. Raises MixstyleError for a file that does not tell what it was made with."""
    from mixstyle.stages.common.chosen_encoder import checkpoint_hash
    from mixstyle.stages.train.provenance import OTHER_INPUTS, RENAMED, START, provenance_of, unversioned
    from mixstyle.stages.train.start import start_file

    stored = read_provenance(folder / SETTINGS, RENAMED)
    inputs = {name: str(stored.made_from[name]) for name in OTHER_INPUTS if name != START and name in stored.made_from}
    if cache and cache.complete:
        inputs["stems"] = cache.fingerprint
    if store and store.complete:
        inputs["features"] = store.fingerprint
    options = settings.train
    if start := start_file(options):
        inputs[START] = checkpoint_hash(start)
    return differences(stored, provenance_of(options, inputs), absent=unversioned(options), told=OTHER_INPUTS)


def _bank(settings: Settings) -> "tuple[StemCache | None, FeatureStore | None]":
    """The bank and its descriptors, where both can be read and belong together."""
    from mixstyle.stages.features.described_stems import open_described_bank

    try:
        return open_described_bank(settings)
    except MixstyleError:
        return None, None


def _total_steps(settings: Settings, cache: "StemCache | None") -> int | None:
    """Steps that the training will have; None where the tracks are not known yet."""
    if cache is None or not cache.complete:
        return None
    from mixstyle.pipeline.encoder.objectives.registry import grid_objectives
    from mixstyle.stages.train.grid import blocks_of

    options = settings.train
    tracks = sum(track.split == "train" and len(track.clips) >= 2 for track in cache.tracks)
    if settings.train.objective in grid_objectives():
        tracks = sum(len(block) for block in blocks_of(cache, "train"))
    total = (options.steps_per_epoch or tracks // options.batch_size) * options.num_epochs
    return min(total, options.max_steps) if options.max_steps else total
