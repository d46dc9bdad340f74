"""Processes that train into one URL, as `train` does on several machines, and what must come of it.

The network is a matrix that each step changes by what it was before: a run that went on from anything but the step
before has other weights. Files, names and the order of writing are those of `train`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from helpers.s3_server import BUCKET, objects
from mixstyle.cache.models.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    epoch_name,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from mixstyle.cache.storage.atomic import write_text
from mixstyle.cache.storage.remote_folder import (
    KeptFile,
    KeptFolder,
    RemoteFolder,
    kept_folder,
    object_name,
    read_folder,
)
from mixstyle.pipeline.core.errors import MixstyleError

STEPS, STEPS_PER_EPOCH, SIZE = 6, 2, 24
LOSS, LOSS_HEAD = "loss.csv", "step,train_loss\n"
NOT_THERE = ("not-found", "remote")
"""Codes of errors that say that something cannot be read (now)."""


def begin() -> dict[str, Any]:
    weights = torch.randn((SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    start = {"step": 0, "epoch": 0, "best_loss": 9.0, "training_seconds": 0.0}
    return {**start, "encoder": {"weights": weights}, "optimizer": {"moments": torch.zeros(SIZE, SIZE)}}


def after_step(content: dict[str, Any]) -> dict[str, Any]:
    step = content["step"] + 1
    noise = torch.randn((SIZE, SIZE), generator=torch.Generator().manual_seed(step))
    moments = 0.9 * content["optimizer"]["moments"] + noise
    weights = torch.tanh(content["encoder"]["weights"] + 0.1 * moments)
    ended = {"step": step, "epoch": -(-step // STEPS_PER_EPOCH), "best_loss": 9.0 / step, "training_seconds": 0.0}
    return {**ended, "encoder": {"weights": weights}, "optimizer": {"moments": moments}}


def row(content: dict[str, Any]) -> str:
    return f"{content['step']},{content['encoder']['weights'].abs().mean().item():.8g}\n"


def train(kept: KeptFolder) -> int:
    """Trains to the end; how many steps it took. Raises AssertionError for anything that is not whole."""
    left_out: list[str] = []
    with kept.turn("train"):
        kept.fetch(left_out=left_out)
        found, torn = newest_checkpoint(kept.folder)
        if left_out or torn:
            raise AssertionError(f"not whole: {left_out} {torn}")
        content = begin() if found is None else found[1]
        first, folder = content["step"], kept.folder
        lines = (folder / LOSS).read_text().splitlines(keepends=True)[: first + 1] if first else [LOSS_HEAD]
        while content["step"] < STEPS:
            content = after_step(content)
            lines.append(row(content))
            write_text(folder / LOSS, "".join(lines))
            if content["step"] % STEPS_PER_EPOCH == 0:
                for name in (BEST, epoch_name(content["epoch"])):
                    save_checkpoint(folder / name, content)
            save_checkpoint(folder / LATEST, content)
            kept.send()
        save_checkpoint(folder / FINAL, content)
        kept.send()
    return STEPS - first


class CheckpointWorkers:
    """What trainings and readers of checkpoints do. root: where a folder's training goes."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True)
        train(KeptFolder(root))
        self._files = {path.name: path.read_bytes() for path in root.iterdir()}
        content = begin()
        self.weights, self._rows = {0: content["encoder"]["weights"]}, [LOSS_HEAD]
        for step in range(1, STEPS + 1):
            content = after_step(content)
            self.weights[step] = content["encoder"]["weights"]
            self._rows.append(row(content))

    def work(self, url: str, folder: Path) -> int:
        """Goes on with the training to its end."""
        return train(kept_folder(Path(url), folder))

    def check_read(self, url: str, folder: Path) -> int:
        """Reads what is there now: weights and log of one and the same step, as in an unbroken run. How many steps."""
        kept = read_folder(Path(url), folder)
        if not self._read(lambda: kept.fetch(LATEST, LOSS)) or not (kept.folder / LATEST).is_file():
            return 0
        content = load_checkpoint(kept.folder / LATEST)
        step = content["step"]
        assert torch.equal(content["encoder"]["weights"], self.weights[step]), step
        assert (kept.folder / LOSS).read_text() == "".join(self._rows[: step + 1]), step
        return step

    def check_objects(self, name: str, folder: Path) -> int:
        """Holds the files that the last manifest names against the folder's; how many objects no manifest names."""
        found, last = objects(name), RemoteFolder(f"s3://{BUCKET}/{name}", folder)
        last.fetch()
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert files == self._files, files.keys() ^ self._files.keys()
        for file in files:
            last.check(file)
        manifests = sorted((key for key in found if key.startswith("manifest-")), reverse=True)[:2]
        named = {
            object_name(file, KeptFile(kept["bytes"], kept["sha256"]))
            for manifest in manifests
            for file, kept in json.loads(found[manifest])["files"].items()
        }
        return len(found.keys() - named - {*manifests})

    @staticmethod
    def _read(look: Callable[[], None]) -> bool:
        try:
            look()
        except MixstyleError as error:
            if error.code not in NOT_THERE:
                raise AssertionError(f"read as {error.code}: {error}") from error
            return False
        return True
