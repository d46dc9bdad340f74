"""`mixstyle train`: the encoder, by InfoNCE over cached stems.

For each track of a batch there are an anchor clip, a positive and a hard negative (`mixstyle.stages.train.data` tells
which); all three go through the encoder in one pass, so they share batch statistics.

Everything random in a step follows from (seed, step), so a run that was killed goes on from its last checkpoint and
ends, on a CPU with as many threads, with the very same weights as one that was not. There is no other state: the
learning rate is a function of the step, and bf16 needs no scaling of losses.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    MIXED_FROM,
    checkpoints_in,
    describe_encoder,
    epoch_name,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
    track_numbers,
)
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.provenance import guard
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.encoder.distributed import any_rank, gather_objects, items_of_rank, wait_for_ranks, world
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.features.described_stems import open_described_bank, open_described_stems
from mixstyle.stages.settings.kept import training_folder, with_training_folder
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.train.ctrl_c import CtrlC
from mixstyle.stages.train.data import Batch, Items, load_batches
from mixstyle.stages.train.grid import BankItems, BlockReader
from mixstyle.stages.train.launcher import as_rank, device_of_rank, fetch_for_ranks, in_processes
from mixstyle.stages.train.log import TrainLog, read_loss, told_row
from mixstyle.stages.train.mels import kept_mels
from mixstyle.stages.train.missing import make_missing
from mixstyle.stages.train.monitor import watch_songs
from mixstyle.stages.train.provenance import (
    OTHER_INPUTS,
    REBUILD,
    RENAMED,
    SETTINGS,
    cannot_go_on,
    provenance_of,
    reads_bank,
    separators_of,
    unversioned,
)
from mixstyle.stages.train.readers import Position, RandomReader
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
from mixstyle.stages.train.step import Stepper, StepResult

LOSS = "loss.csv"
SAME_RATE = 1e-6
"""Learning rates that differ by less, relative to the larger, are equal: a schedule gives the same number twice."""


@dataclass(frozen=True)
class TrainSummary:
    """How a run ended. loss: mean over the last epoch; None where nothing was left to do."""

    steps: int
    epochs: int
    loss: float | None
    best_loss: float
    checkpoint: Path
    wall_s: float
    waited_s: float


def train(settings: Settings, rebuild: bool = False) -> TrainSummary:
    """Trains until `num_epochs` (or `max_steps`), going on from the newest checkpoint there is.

    With several `train.devices`, or `train.processes` above 1, that many processes are started and waited for (how
    long they waited for data is not known then); under torchrun, each process is one of those. Raises MixstyleError
    where stems or descriptors are missing or do not fit, settings have changed, a process ended, or a loss is not
    finite (the batch is then written down).
    """
    folder = training_folder(settings).folder
    for output in (folder, settings.train.log_dir):
        check_folder(output)
    if not folder.exists():  # what is refused leaves no folder behind, nor a lock in it
        check_objective(settings.train)
        open_inputs(settings)
    with as_rank(settings.train) as joined:
        if not joined and settings.train.process_count > 1:
            began = time.monotonic()
            in_processes(settings, rebuild)
            ended = load_checkpoint(folder / FINAL)
            wall_s = time.monotonic() - began
            return TrainSummary(
                ended["step"], ended["epoch"], ended["loss"], ended["best_loss"], folder / FINAL, wall_s, math.nan
            )
        if world()[0] == 0:
            with locked(folder, "mixstyle train"):
                return _Run(settings, rebuild).go()
        return _Run(settings, rebuild=False).go()


def open_inputs(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The clips that are trained on and their descriptors. Raises MixstyleError as `open_described_stems` does."""
    return (open_described_bank if reads_bank(settings.train) else open_described_stems)(settings)


class _Run:
    """One run: what it reads, the network, and where it stands. On each rank; the first one writes."""

    def __init__(self, settings: Settings, rebuild: bool) -> None:
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
        self.encoder = new_encoder(config, store, options.seed).to(self.device)
        self.head = head_of(options)
        self.mel.to(self.device)
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
            self._guard(rebuild)  # last: settings that cannot work leave no trace
            self._send()
        wait_for_ranks()

    def go(self) -> TrainSummary:
        self._resume()
        options, folder = self.options, self.options.checkpoint_dir
        if self.step >= self.total:
            losses = self._epoch_losses()
            for name in (LATEST, FINAL):
                if self.leads and not self._has_last(folder / name):
                    self._save(name, sum(losses) / len(losses) if losses else None)
            self._send()
            self._say(f"train: nothing to do, {self.step} steps are done ({folder / FINAL})")
            return TrainSummary(self.step, self._epoch, None, self.best_loss, folder / FINAL, 0.0, 0.0)
        parameters = sum(p.numel() for p in self.encoder.parameters())
        ranks = f", {world()[1]} processes" if world()[1] > 1 else ""
        items = "groups" if isinstance(self.data, BankItems) else "tracks"
        self._say(
            f"train: {len(self.data.tracks)} {items}, {self.steps_per_epoch} steps of {options.batch_size} {items} an "
            f"epoch, {self.total} steps in all; encoder of {parameters / 1e6:.2f} M parameters on {self.device}{ranks}"
        )
        if self.validation is None:
            what = "no block of the bank is" if isinstance(self.data, BankItems) else "fewer than two songs are"
            self._say(f"train: {what} held out for validation: {BEST} is the one of the lowest training loss")
        self.stepper = Stepper(self.encoder, self.mel, self.head, options, self.device)
        log = TrainLog(folder / LOSS, options.log_dir, self.step) if self.leads else None
        began, self.waited_s, loss = time.monotonic(), 0.0, None
        try:
            with CtrlC(self.leads) as ctrl_c:
                loss = self._loop(log, ctrl_c)
        finally:
            if log is not None:
                log.close()
        self._save(LATEST, loss)
        self._save(FINAL, loss)
        self._send()
        wait_for_ranks()
        wall_s = time.monotonic() - began
        self._say(
            f"train: step {self.step} of {self.total}, loss {loss:.4f}, best {self.best_loss:.4f}; "
            f"{wall_s:.0f} s, of which {self.waited_s:.0f} s waiting for data; {folder / FINAL}"
        )
        return TrainSummary(self.step, self._epoch, loss, self.best_loss, folder / FINAL, wall_s, self.waited_s)

    def _datasets(self) -> tuple[Items | BankItems, Items | BankItems | None]:
        options, here = self.options, self.device.type == "cpu"
        if not reads_bank(options):
            return datasets(options, self.cache, self.store, here)
        mels = self._kept_mels() if options.keep_mels else None
        return bank_datasets(options, self.cache, self.store, here, mels)

    def _kept_mels(self) -> MelStore:
        """Spectrograms of the bank, made by the first rank while the others wait."""
        if self.leads:
            kept_mels(self.options, self.cache, self.store, self.mel, fill=True)
        wait_for_ranks()
        return kept_mels(self.options, self.cache, self.store, self.mel, fill=False)

    def _loop(self, log: TrainLog | None, ctrl_c: "CtrlC") -> float:
        options = self.options
        losses, mean = self._epoch_losses(), math.nan
        batches = load_batches(self.reader, self._places(), options.workers, self.items)
        with progress("training", total=self.total, unit="steps", done=self.step, shown=self.leads) as bar:
            while self.step < self.total:
                start = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - start
                result, norm = self._train_step(batch)
                self.step += 1
                loss = result.info.loss.item()
                if math.isfinite(loss):
                    losses.append(loss)
                took = time.monotonic() - start
                self.waited_s += waited
                self.seconds += took
                ended = self.step % self.steps_per_epoch == 0 or self.step == self.total
                validation = self._validate() if ended and self._validates else None
                # Logged before it is saved: a run killed in between then repeats the row and does not lack it.
                if log is not None:
                    speed = {"speed/steps_per_s": 1 / took, "speed/data_wait_share": waited / took}
                    row = {**self._row(result, norm), "validation_loss": validation}
                    bar.watch(told_row(row, speed, self.best_loss))
                    log.write(row, {**speed, "speed/audio_per_s": batch.audio_s * world()[1] / took}, result.embeddings)
                    if ended and options.map_every and self._epoch % options.map_every == 0:
                        what = "group" if isinstance(self.data, BankItems) else "song"
                        with log.board() as board:
                            watch_songs(board, self.encoder, self.mel, self.cache, self.store, self.step, what)
                if ended:
                    self._end_epoch(losses, validation)
                elif self.step % options.save_every_steps == 0:
                    self._save(LATEST, None)
                    self._send()
                bar.note(f"loss {loss:.3f}")
                bar.advance()
                mean = sum(losses) / max(len(losses), 1)
                if ended:
                    losses.clear()
                if any_rank(ctrl_c.pressed > 0, self.device):
                    self._save(LATEST, None)
                    self._send()
                    wait_for_ranks()
                    ctrl_c.stop()
        return mean

    def _train_step(self, batch: Batch) -> tuple[StepResult, float]:
        self.encoder.train()
        self.optimizer.zero_grad(set_to_none=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.options, self.step, self.total)
        # Dropout draws from torch's generator: seeded by the step, it needs no state in the checkpoint.
        result = self.stepper.gradients(batch, self.options.seed * 1_000_003 + self.step)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None]).item()
        wrong = "loss" if not math.isfinite(result.loss) else "gradient" if not math.isfinite(norm) else None
        if wrong is None:
            self.optimizer.step()
            return result, norm
        told = f"train: the {wrong} of step {self.step + 1} is not finite; its batch stands in {self._write_bad(batch)}"
        if self.options.on_not_finite == "stop":
            raise MixstyleError(f"{told}; lower train.learning_rate, or leave those tracks out", code="not-finite")
        self._say(f"{told}; the step is skipped")
        return result, norm

    def _validate(self) -> float | None:
        """Mean loss over the validation split's own batches, which are the same in every epoch; on the first rank."""
        if self.validation is None:
            return None
        loss = math.nan
        if self.leads:
            self.encoder.eval()
            steps = [(0, step) for step in range(self.validation.steps_per_epoch)]
            validation = self.validation
            reader = BlockReader(validation) if isinstance(validation, BankItems) else RandomReader(validation)
            batches = load_batches(reader, steps, self.options.workers)
            loss = sum(self.stepper.loss(batch) for batch in batches) / len(steps)
        return gather_objects(loss)[0]

    @property
    def _validates(self) -> bool:
        """Whether this step, the last of an epoch or of the run, is followed by a validation."""
        return self._epoch % self.options.validate_every == 0 or self.step == self.total

    def _end_epoch(self, losses: list[float], validation: float | None) -> None:
        """Saves what an epoch's end asks for. An epoch cut short by max_steps counts as one."""
        judged = validation if self.validation is not None else sum(losses) / len(losses)
        if judged is not None and judged < self.best_loss:
            self.best_loss = judged
            self._save(BEST, judged)
        if self._epoch_is_kept:
            self._save(epoch_name(self._epoch), judged)
        self._save(LATEST, judged)
        self._send()

    @property
    def _epoch_is_kept(self) -> bool:
        """Whether the training stands at the end of an epoch that gets a checkpoint of its own."""
        return self.step % self.steps_per_epoch == 0 and self._epoch % self.options.checkpoint_every == 0

    @property
    def _epoch(self) -> int:
        """Epochs begun, counted from 1; a finished one counts until the next begins."""
        return -(-self.step // self.steps_per_epoch)

    def _places(self) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.total):
            yield divmod(step, self.steps_per_epoch)

    def _row(self, result: StepResult, norm: float) -> dict[str, float | int | None]:
        watched = (field.name for field in fields(result.info) if field.name != "loss")
        values = {name: getattr(result.info, name).item() for name in watched}
        return {
            "step": self.step,
            "epoch": self._epoch,
            "train_loss": result.info.loss.item(),
            **values,
            "chain_loss": None if result.chain_loss is None else result.chain_loss.item(),
            "gradient_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _epoch_losses(self) -> list[float]:
        """Losses of the epoch that a resumed run is in, as far as it is done, so that its mean is that of the whole
        epoch; of the last epoch where all are done."""
        begun = self.step - self.step % self.steps_per_epoch
        if self.step == self.total:
            begun = max(self.step - 1, 0) // self.steps_per_epoch * self.steps_per_epoch
        rows = read_loss(self.options.checkpoint_dir / LOSS)
        losses = [float(np.float32(row["train_loss"])) for row in rows if begun < int(row["step"]) <= self.step]
        return [loss for loss in losses if math.isfinite(loss)]

    def _has_last(self, path: Path) -> bool:
        """Whether a checkpoint holds the step that the training stands at."""
        try:
            return int(load_checkpoint(path)["step"]) == self.step
        except MixstyleError:
            return False

    def _send(self) -> None:
        """Keeps what was saved, where that is behind a URL."""
        if self.leads:
            self.kept.send()

    def _save(self, name: str, loss: float | None) -> None:
        if not self.leads:
            return
        content: dict[str, Any] = {
            **describe_encoder(self.encoder, self.mel),
            "chain_head": self.head.state_dict() if self.head is not None else None,
            "settings": plain(self.settings),
            "made_from": self.made_from | self._mixed_from,
            "separators": separators_of(self.cache, self.settings),
            "trained_on": self._trained_on,
            "epoch": self._epoch,
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "loss": loss,
            "best_loss": self.best_loss,
            "reader": self.reader.positions(*self._place),
            "training_seconds": self.seconds,
        }
        save_checkpoint(self.options.checkpoint_dir / name, content)

    @property
    def _mixed_from(self) -> dict[str, str]:
        """The stems that the bank was mixed from, as its provenance tells."""
        stems = self.cache.provenance.made_from.get("stems") if reads_bank(self.options) else None
        return {MIXED_FROM: str(stems)} if stems else {}

    @cached_property
    def _trained_on(self) -> torch.Tensor:
        """Numbers of the songs that were trained on."""
        if isinstance(self.data, BankItems):
            return track_numbers(self.data.song_ids)
        return track_numbers(track.track_id for track in self.data.tracks)

    def _resume(self) -> None:
        folder = self.options.checkpoint_dir
        found, torn = newest_checkpoint(folder, self.device)
        if found is None:
            if torn:  # a training from the start would write over models that somebody may still want
                told = f"{torn[0]}; {cannot_go_on(folder)}; to do so,"
                raise MixstyleError(told, code="damaged-file", remedy=REBUILD)
            return
        path, content = found
        for line in torn:
            self._say(f"train: warning: passed over {line}")
        try:
            self.encoder.load_state_dict(content["encoder"])
            if self.head is not None:
                self.head.load_state_dict(content["chain_head"])
            self.optimizer.load_state_dict(content["optimizer"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise MixstyleError(
                f"{path}: does not fit the network of these settings ({one_line(error, 200)}); remove it, or",
                code="misfit",
                remedy=REBUILD,
            ) from error
        self.step, self.best_loss, self.seconds = content["step"], content["best_loss"], content["training_seconds"]
        self._check_stream(path, content.get("reader") or [])
        if self.leads:
            make_missing(folder, path, content, self._epoch_is_kept, self._say)
        if self.step < self.total:
            self._say(f"train: going on from step {self.step} ({path})")
            self._tell_of_another_schedule(content)

    def _tell_of_another_schedule(self, content: dict[str, Any]) -> None:
        """A schedule that falls to the end of the run is another one where the end has moved: a jump, and told."""
        was = content["optimizer"]["param_groups"][0]["lr"]
        now = learning_rate(self.options, self.step - 1, self.total) if self.step else was
        if not math.isclose(was, now, rel_tol=SAME_RATE):
            self._say(
                f"train: warning: the learning rate jumps from {was:.3g} to {now:.3g}: train.schedule="
                f"{self.options.schedule} ended elsewhere before, and ends at step {self.total} now; --rebuild trains "
                "without a jump"
            )

    @property
    def _place(self) -> tuple[int, int]:
        """(epoch, steps done in it) of the last step."""
        epoch, step = divmod(max(self.step - 1, 0), self.steps_per_epoch)
        return epoch, step + min(self.step, 1)

    def _check_stream(self, path: Path, stored: list[Position]) -> None:
        """Holds where a stream stood, as the checkpoint says, against where it stands by the order of now."""
        found = self.reader.positions(*self._place)
        if len(found) != len(stored) and self.step < self.total:
            self._say(f"train: {len(found)} processes deal out the shards anew; the checkpoint was of {len(stored)}")
        elif found != stored:
            raise MixstyleError(
                f"{path}: its stream of shards stood elsewhere than the order of now says; undo the change, or",
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
            anew=True,
        )

    def _write_bad(self, batch: Batch) -> Path:
        path = self.options.checkpoint_dir / f"not_finite_step_{self.step + 1}.json"
        roles = ("anchor", "positive", "negative")
        remixes = [{role: remix.to_json() for role, remix in zip(roles, made, strict=True)} for made in batch.remixes]
        parts = gather_objects({"tracks": list(batch.track_ids), "remixes": remixes})
        content = {name: [entry for part in parts for entry in part[name]] for name in ("tracks", "remixes")}
        if self.leads:
            write_json(path, json.loads(json.dumps({"step": self.step + 1, **content})))
        return path

    def _say(self, line: str) -> None:
        if self.leads:
            say(line)
