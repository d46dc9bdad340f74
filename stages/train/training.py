"""A training as it is now: its inputs, network and optimizer, its checkpoints, and how it goes on from them.

What is saved follows from the steps that are done: a run that ended between two files makes up for it when it goes on.
"""

import math
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import (
    LATEST,
    MADE_WITH,
    MIXED_FROM,
    checkpoints_in,
    describe_encoder,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    track_numbers,
)
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import SETTINGS, guard
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.encoder.distributed import items_of_rank, wait_for_ranks, world
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import remark, say
from mixstyle.stages.features.described_stems import open_described_bank, open_described_stems
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.settings.remote_folders import training_folder, with_training_folder
from mixstyle.stages.train.data import Items
from mixstyle.stages.train.grid import BankItems
from mixstyle.stages.train.launcher import device_of_rank, fetch_for_ranks
from mixstyle.stages.train.log import LOSS, read_loss
from mixstyle.stages.train.mels import check_no_other, kept_mels
from mixstyle.stages.train.missing import make_missing
from mixstyle.stages.train.optimizer_state import take_state
from mixstyle.stages.train.provenance import (
    OTHER_INPUTS,
    REBUILD,
    RENAMED,
    START,
    cannot_go_on,
    is_made_with,
    provenance_of,
    reads_bank,
    separators_of,
    unversioned,
)
from mixstyle.stages.train.readers import Position
from mixstyle.stages.train.schedule import learning_rate
from mixstyle.stages.train.setup import (
    bank_datasets,
    check_objective,
    datasets,
    head_of,
    new_encoder,
    reader_of,
    shapes,
)
from mixstyle.stages.train.start import Start, start_of

SAME_RATE = 1e-6
"""Learning rates that differ by less, relative to the larger, are equal: a schedule gives the same number twice."""


def open_inputs(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The clips that are trained on and their descriptors. Raises MixstyleError as `open_described_stems` does."""
    return (open_described_bank if reads_bank(settings.train) else open_described_stems)(settings)


class Training:
    """What a training reads, the network, and where it is. On each rank; the first one writes.

    start: the encoder that it starts from, if that was read already.
    """

    def __init__(self, settings: Settings, rebuild: bool, start: Start | None = None) -> None:
        self.settings, self.kept = settings, training_folder(settings)
        self.options = options = with_training_folder(settings, self.kept.folder).train
        check_objective(options)
        self.leads = world()[0] == 0
        fetch_for_ranks(self.kept, self.leads, rebuild)
        self.device = device_of_rank(options)
        if options.threads:
            torch.set_num_threads(options.threads)
        self.cache, self.store = cache, store = open_inputs(settings)
        self.made_from = {"stems": cache.fingerprint, "features": store.fingerprint}
        self.mel, config = shapes(options, len(store.names), cache)
        self.data, self.validation = self._datasets()
        self.start = start = start or start_of(options)
        if start is not None:
            self.made_from[START] = start.sha256
            self.encoder = start.network(config, self.mel, options.seed).to(self.device)
        else:
            self.encoder = new_encoder(config, store, options.seed).to(self.device)
        self.head = head_of(options)
        if self.head is not None:
            self.head.to(self.device)
        self.parameters = [*self.encoder.parameters(), *(self.head.parameters() if self.head else ())]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=options.learning_rate, weight_decay=options.weight_decay)
        try:
            self.items = items_of_rank(options.batch_size)
        except ValueError as error:
            raise MixstyleError(f"train.batch_size: {error}", code="bad-setting") from error
        self.reader = reader_of(options, self.data, self.items)
        self.steps_per_epoch = options.steps_per_epoch or self.data.steps_per_epoch
        self.total = self.steps_per_epoch * options.num_epochs
        if options.max_steps:
            self.total = min(self.total, options.max_steps)
        self.step, self.best_loss, self.seconds = 0, math.inf, 0.0
        if self.leads:
            if self._keeps_mels:
                check_no_other(options, cache, self.mel)  # before `--rebuild` deletes checkpoints
            self._guard(rebuild)  # after all that may refuse the settings: those that cannot work leave no trace
            self.send()
        wait_for_ranks()
        self._take_kept_mels()
        self.mel.to(self.device)

    def _datasets(self) -> tuple[Items | BankItems, Items | BankItems | None]:
        options, here = self.options, self.device.type == "cpu"
        if not reads_bank(options):
            return datasets(options, self.cache, self.store, here)
        return bank_datasets(options, self.cache, self.store, here)

    @property
    def _keeps_mels(self) -> bool:
        return isinstance(self.data, BankItems) and self.options.keep_mels

    def _take_kept_mels(self) -> None:
        """Has the batches of a bank read its spectrograms, where they are kept: the first rank makes missing ones on
        the CPU while the others wait. That may take hours, so it comes after all that may refuse the settings."""
        if not (isinstance(self.data, BankItems) and self._keeps_mels):
            return
        if self.leads:
            kept_mels(self.options, self.cache, self.store, self.mel, fill=True)
        wait_for_ranks()
        self.data.mels = kept_mels(self.options, self.cache, self.store, self.mel, fill=False)
        if isinstance(self.validation, BankItems):
            self.validation.mels = self.data.mels

    @property
    def epoch_is_kept(self) -> bool:
        """Whether the training is at the end of an epoch that gets a checkpoint of its own."""
        return self.step % self.steps_per_epoch == 0 and self.epoch % self.options.checkpoint_every == 0

    @property
    def epoch(self) -> int:
        """Epochs begun, counted from 1; a finished one counts until the next begins."""
        return -(-self.step // self.steps_per_epoch)

    def epoch_losses(self) -> list[float]:
        """Losses of the epoch that a resumed run is in, as far as it is done, so that its mean is that of the whole
        epoch; of the last epoch where all are done."""
        begun = self.step - self.step % self.steps_per_epoch
        if self.step == self.total:
            begun = max(self.step - 1, 0) // self.steps_per_epoch * self.steps_per_epoch
        rows = read_loss(self.options.checkpoint_dir / LOSS)
        losses = [float(np.float32(row["train_loss"])) for row in rows if begun < int(row["step"]) <= self.step]
        return [loss for loss in losses if math.isfinite(loss)]

    def has_last(self, path: Path) -> bool:
        """Whether a checkpoint holds the step that the training is at."""
        try:
            return int(load_checkpoint(path)["step"]) == self.step
        except MixstyleError:
            return False

    def send(self) -> None:
        """Keeps what was saved, where that is behind a URL."""
        if self.leads:
            self.kept.send()

    def save(self, name: str, loss: float | None) -> None:
        if not self.leads:
            return
        content: dict[str, Any] = {
            **describe_encoder(self.encoder, self.mel),
            "chain_head": self.head.state_dict() if self.head is not None else None,
            "settings": plain(self.settings),
            "made_from": self.made_from | self._mixed_from,
            MADE_WITH: provenance_of(self.options, self.made_from).fingerprint,
            "separators": self._separators,
            "trained_on": self._trained_on,
            "epoch": self.epoch,
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "loss": loss,
            "best_loss": self.best_loss,
            "reader": self.reader.positions(*self._place),
            "training_seconds": self.seconds,
        }
        save_checkpoint(self.options.checkpoint_dir / name, content)

    def tell_start(self) -> None:
        """Says which encoder the training starts from, and which songs of the validation that one has trained on."""
        if self.start is None:
            return
        self.remark(f"train: starts from the weights of {self.start.path} ({self.start.loaded.step} steps)")
        held = [] if self.validation is None else _songs_of(self.validation).tolist()
        before = set(self.start.trained_on.tolist())
        if known := sum(song in before for song in held):
            self.remark(
                f"train: warning: {known} of the {len(held)} validation songs were trained on by that encoder: the "
                "validation loss is too low"
            )

    @property
    def _mixed_from(self) -> dict[str, str]:
        """The stems that the bank was mixed from, as its provenance tells."""
        stems = self.cache.provenance.made_from.get("stems") if reads_bank(self.options) else None
        return {MIXED_FROM: str(stems)} if stems else {}

    @property
    def _separators(self) -> list[dict[str, Any]]:
        """The separators of the stems that were trained on, here and before."""
        before = [record.to_json() for record in self.start.separators] if self.start else []
        here = separators_of(self.cache, self.settings)
        return [*before, *(record for record in here if record not in before)]

    @cached_property
    def _trained_on(self) -> torch.Tensor:
        """Numbers of the songs that were trained on, here and before."""
        here = _songs_of(self.data)
        return here if self.start is None else torch.cat([here, self.start.trained_on.cpu()]).unique()

    def resume(self) -> None:
        folder = self.options.checkpoint_dir
        found, torn = newest_checkpoint(folder, self._take)
        if found is None:
            if torn:  # a training from the start would write over models that somebody may still want
                told = f"{torn[0]}; {cannot_go_on(folder)}; to do so,"
                raise MixstyleError(told, code="damaged-file", remedy=REBUILD)
            return
        path, content = found
        for line in torn:
            self.remark(f"train: warning: skipped {line}")
        if path.name != LATEST:
            self._take(path, content)  # again: another one may have been tried after it
        self.step, self.best_loss, self.seconds = content["step"], content["best_loss"], content["training_seconds"]
        self._check_stream(path, content.get("reader") or [])
        if self.leads:
            make_missing(folder, path, content, self.epoch_is_kept, self.remark, completed(REBUILD, self.settings))
        if self.step < self.total:
            self.remark(f"train: continuing from step {self.step} ({path})")
            self._tell_of_another_schedule(content)

    def _take(self, path: Path, content: dict[str, Any]) -> None:
        """Takes the weights and the optimiser of a checkpoint. Raises MixstyleError (misfit) where they are of another
        network, and leaves what it took: the next one has all of them."""
        try:
            self.encoder.load_state_dict(content["encoder"])
            if self.head is not None:
                self.head.load_state_dict(content["chain_head"])
            take_state(self.optimizer, content["optimizer"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise MixstyleError(
                f"{path}: does not fit the network of these settings ({one_line(error, 200)})", code="misfit"
            ) from error

    def _tell_of_another_schedule(self, content: dict[str, Any]) -> None:
        """A schedule that falls to the end of the run is another one where the end has moved: a jump, and told."""
        was = content["optimizer"]["param_groups"][0]["lr"]
        now = learning_rate(self.options, self.step - 1, self.total) if self.step else was
        if not math.isclose(was, now, rel_tol=SAME_RATE):
            self.remark(
                f"train: warning: the learning rate jumps from {was:.3g} to {now:.3g}: train.schedule="
                f"{self.options.schedule} now ends at step {self.total}, not where it ended before; to train without "
                f"a jump, run: {completed(REBUILD, self.settings)}"
            )

    @property
    def _place(self) -> tuple[int, int]:
        """(epoch, steps done in it) of the last step."""
        epoch, step = divmod(max(self.step - 1, 0), self.steps_per_epoch)
        return epoch, step + min(self.step, 1)

    def _check_stream(self, path: Path, stored: list[Position]) -> None:
        """Holds where a stream was, as the checkpoint says, against where it is by the order of now."""
        found = self.reader.positions(*self._place)
        if len(found) != len(stored) and self.step < self.total:
            self.remark(f"train: {len(found)} processes now share out the shards; the checkpoint was of {len(stored)}")
        elif found != stored:
            raise MixstyleError(
                f"{path}: the shards are now read in another order than when it was saved, so the training cannot "
                "continue from it; undo what has changed since (the stems, or settings of train), or",
                code="stale",
                remedy=REBUILD,
            )

    def _guard(self, rebuild: bool) -> None:
        folder = self.options.checkpoint_dir
        outputs = [*checkpoints_in(folder), folder / LOSS, *self.options.log_dir.glob("events.out.tfevents.*")]
        provenance = provenance_of(self.options, self.made_from)
        absent = unversioned(self.options)
        guard(
            folder / SETTINGS,
            provenance,
            rebuild=rebuild,
            remove=outputs,
            renamed=RENAMED,
            absent=absent,
            told=OTHER_INPUTS,
            vouched=partial(is_made_with, folder),
            fitting_too=True,
        )

    def say(self, line: str) -> None:
        if self.leads:
            say(line)

    def remark(self, line: str) -> None:
        if self.leads:
            remark(line)


def _songs_of(data: Items | BankItems) -> torch.Tensor:
    """Numbers of the songs that clips are taken from."""
    if isinstance(data, BankItems):
        return track_numbers(data.song_ids)
    return track_numbers(track.track_id for track in data.tracks)
