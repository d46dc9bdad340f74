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
from pathlib import Path

import torch

from mixstyle.cache.models.checkpoints import BEST, FINAL, LATEST, drop_unfinished, epoch_name, load_checkpoint
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.locks import locked
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.distributed import any_rank, gather_objects, wait_for_ranks, world
from mixstyle.stages.common.progress import progress
from mixstyle.stages.common.stopping import StoppingAfterStep
from mixstyle.stages.common.worker_errors import worker_deaths
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import training_folder
from mixstyle.stages.train.data import Batch, load_batches
from mixstyle.stages.train.grid import BankItems, BlockReader
from mixstyle.stages.train.launcher import as_rank, check_environment, in_processes
from mixstyle.stages.train.log import LOSS, TrainLog, told_row
from mixstyle.stages.train.monitor import watch_songs
from mixstyle.stages.train.readers import RandomReader
from mixstyle.stages.train.schedule import learning_rate
from mixstyle.stages.train.setup import check_objective
from mixstyle.stages.train.start import start_of
from mixstyle.stages.train.step import Stepper, StepResult
from mixstyle.stages.train.training import Training, open_inputs

TO_STOP = "train: stopping after this step; press again to stop at once"


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


@worker_deaths("train.workers")
def train(settings: Settings, rebuild: bool = False) -> TrainSummary:
    """Trains until `num_epochs` (or `max_steps`), going on from the newest checkpoint there is.

    With several `train.devices`, or `train.processes` above 1, that many processes are started and waited for (how
    long they waited for data is not known then); under torchrun, each process is one of those. Raises MixstyleError
    where stems or descriptors are missing or do not fit, settings have changed, a process ended, or a loss is not
    finite (the batch is then written down).
    """
    check_environment()  # first: what is missing of the inputs may be there in the processes that should be joined
    folder = training_folder(settings).folder
    for output in (folder, settings.train.log_dir):
        check_folder(output)
    start = None
    if not folder.exists():  # what is refused leaves no folder behind, nor a lock in it
        check_objective(settings.train)
        start = start_of(settings.train)
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
                drop_unfinished(folder)
                return _Run(settings, rebuild, start).go()
        return _Run(settings, False, start).go()


class _Run(Training):
    """One run over the steps that are left."""

    def go(self) -> TrainSummary:
        self.resume()
        options, folder = self.options, self.options.checkpoint_dir
        if self.step >= self.total:
            losses = self.epoch_losses()
            for name in (LATEST, FINAL):
                if self.leads and not self.has_last(folder / name):
                    self.save(name, sum(losses) / len(losses) if losses else None)
            self.send()
            self.say(f"train: nothing to do, {self.step} steps are done ({folder / FINAL})")
            return TrainSummary(self.step, self.epoch, None, self.best_loss, folder / FINAL, 0.0, 0.0)
        parameters = sum(p.numel() for p in self.encoder.parameters())
        ranks = f", {world()[1]} processes" if world()[1] > 1 else ""
        items = "groups" if isinstance(self.data, BankItems) else "tracks"
        self.remark(
            f"train: {len(self.data.tracks)} {items}, {self.steps_per_epoch} steps of {options.batch_size} {items} an "
            f"epoch, {self.total} steps in all; encoder of {parameters / 1e6:.2f} M parameters on {self.device}{ranks}"
        )
        if not self.step:
            self.tell_start()
        if self.validation is None:
            what = "no block of the bank is" if isinstance(self.data, BankItems) else "fewer than two songs are"
            self.remark(f"train: {what} held out for validation: {BEST} is the one of the lowest training loss")
        self.stepper = Stepper(self.encoder, self.mel, self.head, options, self.device)
        log = TrainLog(folder / LOSS, options.log_dir, self.step) if self.leads else None
        began, self.waited_s, loss = time.monotonic(), 0.0, None
        try:
            with StoppingAfterStep(lambda: self.remark(TO_STOP)) as stopping:
                loss = self._loop(log, stopping)
        finally:
            if log is not None:
                log.close()
        self.save(LATEST, loss)
        self.save(FINAL, loss)
        self.send()
        wait_for_ranks()
        wall_s = time.monotonic() - began
        self.say(
            f"train: step {self.step} of {self.total}, loss {loss:z.4f}, best {self.best_loss:z.4f}; "
            f"{wall_s:.0f} s, of which {self.waited_s:.0f} s waiting for data; {folder / FINAL}"
        )
        return TrainSummary(self.step, self.epoch, loss, self.best_loss, folder / FINAL, wall_s, self.waited_s)

    def _loop(self, log: TrainLog | None, stopping: StoppingAfterStep) -> float:
        options = self.options
        losses, mean = self.epoch_losses(), math.nan
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
                    if ended and options.map_every and self.epoch % options.map_every == 0:
                        what = "group" if isinstance(self.data, BankItems) else "song"
                        with log.board() as board:
                            watch_songs(board, self.encoder, self.mel, self.cache, self.store, self.step, what)
                if ended:
                    self._end_epoch(losses, validation)
                elif self.step % options.save_every_steps == 0:
                    self.save(LATEST, None)
                    self.send()
                bar.note(f"loss {loss:z.3f}")
                bar.advance()
                mean = sum(losses) / max(len(losses), 1)
                if ended:
                    losses.clear()
                if any_rank(stopping.asked > 0, self.device):
                    self.save(LATEST, None)
                    self.send()
                    wait_for_ranks()
                    stopping.stop()
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
        told = f"train: the {wrong} of step {self.step + 1} is not finite; its batch is in {self._write_bad(batch)}"
        if self.options.on_not_finite == "stop":
            raise MixstyleError(f"{told}; lower train.learning_rate, or leave those tracks out", code="not-finite")
        self.remark(f"{told}; the step is skipped")
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
        return self.epoch % self.options.validate_every == 0 or self.step == self.total

    def _end_epoch(self, losses: list[float], validation: float | None) -> None:
        """Saves what an epoch's end asks for. An epoch cut short by max_steps counts as one."""
        judged = validation if self.validation is not None else sum(losses) / len(losses)
        if judged is not None and judged < self.best_loss:
            self.best_loss = judged
            self.save(BEST, judged)
        if self.epoch_is_kept:
            self.save(epoch_name(self.epoch), judged)
        self.save(LATEST, judged)
        self.send()

    def _places(self) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.total):
            yield divmod(step, self.steps_per_epoch)

    def _row(self, result: StepResult, norm: float) -> dict[str, float | int | None]:
        watched = (field.name for field in fields(result.info) if field.name != "loss")
        values = {name: getattr(result.info, name).item() for name in watched}
        return {
            "step": self.step,
            "epoch": self.epoch,
            "train_loss": result.info.loss.item(),
            **values,
            "chain_loss": None if result.chain_loss is None else result.chain_loss.item(),
            "gradient_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _write_bad(self, batch: Batch) -> Path:
        path = self.options.checkpoint_dir / f"not_finite_step_{self.step + 1}.json"
        roles = ("anchor", "positive", "negative")
        chains = [{role: chain.to_json() for role, chain in zip(roles, made, strict=True)} for made in batch.chains]
        parts = gather_objects({"tracks": list(batch.track_ids), "remixes": chains})
        content = {name: [entry for part in parts for entry in part[name]] for name in ("tracks", "remixes")}
        if self.leads:
            write_json(path, json.loads(json.dumps({"step": self.step + 1, **content})))
        return path
