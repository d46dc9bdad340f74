"""Checkpoints that are missing beside the one that a training continues from: the run ended before it wrote them, or
somebody removed them. They are copied from those that exist."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mixstyle.cache.models.checkpoints import (
    BEST,
    checkpoints_in,
    epoch_name,
    is_whole,
    load_checkpoint,
    save_checkpoint,
)
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.train.log import LOSS, cell, read_loss


def make_missing(
    folder: Path,
    found: Path,
    content: Mapping[str, Any],
    epoch_is_kept: bool,
    tell: Callable[[str], None],
    retrain: str,
) -> None:
    """Makes again what is missing, as far as another checkpoint holds it; tells what is not.

    found, content: the checkpoint that the training goes on from. epoch_is_kept: whether it is at the end of an
    epoch that gets a checkpoint of its own. retrain: the command that trains again from the start. Raises
    MixstyleError (cannot-write).
    """
    own = folder / epoch_name(content["epoch"])
    if found.name == BEST and epoch_is_kept and not is_whole(own):  # written after the best one, with the same content
        _copy(found, own)
    if not math.isfinite(content["best_loss"]) or not _is_gone(folder / BEST):
        return
    source = best_again(folder, content["best_loss"])
    if source is None:
        tell(
            f"train: warning: {folder / BEST} is gone, and no other checkpoint holds the same weights; "
            f"to train again from the start: {retrain}"
        )
        return
    _copy(source, folder / BEST, {"loss": content["best_loss"]})
    tell(f"train: {folder / BEST} was gone; made again from {source.name}")


def _is_gone(path: Path) -> bool:
    """Whether a checkpoint is missing or torn; one of another version is somebody's."""
    try:
        load_checkpoint(path)
    except MixstyleError as error:
        return error.code in ("not-found", "damaged-file")
    return False


def best_again(folder: Path, best_loss: float) -> Path | None:
    """A checkpoint of the epoch whose loss was the lowest: it holds what best_model.pt does, but for `loss` where it is
    of the training's end, which tells the mean of the training's."""
    judged = {int(row["step"]) for row in read_loss(folder / LOSS) if row["validation_loss"] == cell(best_loss)}
    for path in checkpoints_in(folder):
        try:
            content = load_checkpoint(path)
        except MixstyleError:
            continue
        if content.get("best_loss") == best_loss and (content.get("loss") == best_loss or content["step"] in judged):
            return path
    return None


def _copy(source: Path, path: Path, changed: Mapping[str, Any] | None = None) -> None:
    content = {**load_checkpoint(source), **(changed or {})}
    del content["version"]
    save_checkpoint(path, content)  # not the file itself, which has its name in it
