"""`mixstyle train`: the encoder, by InfoNCE over cached stems.

For each track of a batch: an anchor clip, another clip of the same song as the positive, and the anchor with its stems
mixed anew as the hard negative. All three go through the encoder in one pass, so they share batch statistics.

Everything random in a step follows from (seed, step), so a run that was killed goes on from its last checkpoint and
ends, on a CPU with as many threads, with the very same weights as one that was not.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from mixstyle.cache.atomic import locked, write_json
from mixstyle.cache.checkpoints import (
    BEST,
    FINAL,
    LATEST,
    describe_encoder,
    epoch_name,
    newest_checkpoint,
    save_checkpoint,
)
from mixstyle.cache.features_store import FeatureStore
from mixstyle.cache.fingerprint import guard
from mixstyle.cache.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.descriptors import describe
from mixstyle.pipeline.device import resolve_device
from mixstyle.pipeline.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.infonce import InfoNCE, info_nce
from mixstyle.pipeline.mel import StemMel
from mixstyle.pipeline.remix import RemixSettings
from mixstyle.pipeline.stems import SAMPLE_RATE
from mixstyle.stages.progress import progress, say
from mixstyle.stages.settings import Settings, TrainSettings, plain
from mixstyle.stages.train_data import Batch, Triplets, load_batches
from mixstyle.stages.train_log import TrainLog, read_loss

SETTINGS = "settings.json"
LOSS = "loss.csv"
NEUTRAL = (
    "checkpoint_dir log_dir device workers threads num_epochs max_steps checkpoint_every save_every_steps "
    "validate_every"
).split()
"""Settings that do not change what a step does: a run may go on with others."""


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

    Raises MixstyleError where stems or descriptors are missing or do not fit, settings have changed, or a loss is
    not finite (the batch is then written down).
    """
    folder = settings.train.checkpoint_dir
    with locked(folder, "mixstyle train"):
        return _Run(settings, rebuild).go()


class _Run:
    """One run: what it reads, the network, and where it stands."""

    def __init__(self, settings: Settings, rebuild: bool) -> None:
        self.settings, self.options = settings, settings.train
        options = self.options
        self.device = resolve_device(options.device)
        if options.threads:
            torch.set_num_threads(options.threads)
        cache, store = open_inputs(settings)
        self.made_from = {"stems": cache.fingerprint, "features": store.fingerprint}
        self.mel, config = _shapes(options, len(store.names))
        clip_frames = round(options.clip_duration_s * SAMPLE_RATE)
        if self.mel.frames(clip_frames) < config.min_frames:
            raise MixstyleError(
                f"train.clip_duration_s={options.clip_duration_s} gives {self.mel.frames(clip_frames)} mel frames; the "
                f"encoder's poolings need {config.min_frames}"
            )
        if clip_frames > cache.clip_frames:
            raise MixstyleError(
                f"train.clip_duration_s={options.clip_duration_s} is longer than the cached clips "
                f"({cache.clip_frames / SAMPLE_RATE:g} s); lower it or separate longer clips"
            )
        self.data, self.validation = self._datasets(cache, store, clip_frames)
        torch.manual_seed(options.seed)
        self.encoder = Encoder(config)
        statistics = store.stored_statistics() or store.statistics()
        self.encoder.set_descriptor_statistics(*(torch.from_numpy(values) for values in statistics))
        self.encoder.to(self.device)
        self.mel.to(self.device)
        self.optimizer = torch.optim.AdamW(
            self.encoder.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay
        )
        self.autocast = options.precision == "bf16" or (options.precision == "auto" and self.device.type == "cuda")
        self.steps_per_epoch = options.steps_per_epoch or self.data.steps_per_epoch
        self.total = self.steps_per_epoch * options.num_epochs
        if options.max_steps:
            self.total = min(self.total, options.max_steps)
        self.step, self.best_loss, self.seconds = 0, math.inf, 0.0
        self._guard(rebuild)  # last: settings that cannot work leave no trace

    def go(self) -> TrainSummary:
        self._resume()
        options, folder = self.options, self.options.checkpoint_dir
        if self.step >= self.total:
            if not (folder / FINAL).is_file():
                self._save(FINAL, None)
            say(f"train: nothing to do, {self.step} steps are done ({folder / FINAL})")
            return TrainSummary(self.step, self._epoch, None, self.best_loss, folder / FINAL, 0.0, 0.0)
        parameters = sum(p.numel() for p in self.encoder.parameters())
        say(
            f"train: {len(self.data.tracks)} tracks, {self.steps_per_epoch} steps of {options.batch_size} tracks an "
            f"epoch, {self.total} steps in all; encoder of {parameters / 1e6:.2f} M parameters on {self.device}"
        )
        log = TrainLog(folder / LOSS, options.log_dir, self.step)
        began, self.waited_s, loss = time.monotonic(), 0.0, None
        try:
            with _CtrlC() as ctrl_c:
                loss = self._loop(log, ctrl_c)
        finally:
            log.close()
        self._save(LATEST, loss)
        self._save(FINAL, loss)
        wall_s = time.monotonic() - began
        say(
            f"train: step {self.step} of {self.total}, loss {loss:.4f}, best {self.best_loss:.4f}; "
            f"{wall_s:.0f} s, of which {self.waited_s:.0f} s waiting for data; {folder / FINAL}"
        )
        return TrainSummary(self.step, self._epoch, loss, self.best_loss, folder / FINAL, wall_s, self.waited_s)

    def _loop(self, log: TrainLog, ctrl_c: "_CtrlC") -> float:
        options = self.options
        losses, mean = self._epoch_losses(), math.nan
        batches = load_batches(self.data, self._places(), options.workers)
        with progress("training", total=self.total, unit="steps", done=self.step) as bar:
            while self.step < self.total:
                start = time.monotonic()
                batch = next(batches)
                waited = time.monotonic() - start
                result, norm = self._train_step(batch)
                self.step += 1
                losses.append(result.loss.item())
                took = time.monotonic() - start
                self.waited_s += waited
                self.seconds += took
                ended = self.step % self.steps_per_epoch == 0 or self.step == self.total
                validation = self._validate() if ended and self._validates else None
                speed = {"speed/steps_per_s": 1 / took, "speed/data_wait_share": waited / took}
                # Logged before it is saved: a run killed in between then repeats the row and does not lack it.
                row = {**self._row(result, norm), "validation_loss": validation}
                log.write(row, {**speed, "speed/audio_per_s": batch.audio_s / took})
                if ended:
                    self._end_epoch(losses, validation)
                elif self.step % options.save_every_steps == 0:
                    self._save(LATEST, None)
                bar.note(f"loss {result.loss.item():.3f}")
                bar.advance()
                mean = sum(losses) / len(losses)
                if ended:
                    losses.clear()
                if ctrl_c.pressed:
                    self._save(LATEST, None)
                    raise KeyboardInterrupt
        return mean

    def _train_step(self, batch: Batch) -> tuple[InfoNCE, float]:
        self.encoder.train()
        # Dropout draws from torch's generator: seeded by the step, it needs no state in the checkpoint.
        torch.manual_seed(self.options.seed * 1_000_003 + self.step)
        result = self._forward(batch)
        if not math.isfinite(result.loss.item()):
            raise MixstyleError(
                f"the loss of step {self.step + 1} is {result.loss.item()}; what was in its batch stands in "
                f"{self._write_bad(batch)}; lower train.learning_rate, or leave those tracks out"
            )
        self.optimizer.zero_grad(set_to_none=True)
        result.loss.backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.encoder.parameters() if p.grad is not None])
        self.optimizer.step()
        return result, norm.item()

    def _forward(self, batch: Batch) -> InfoNCE:
        stems = batch.stems.to(self.device, non_blocking=True)
        descriptors = batch.descriptors.to(self.device)
        missing = descriptors.isnan().any(1)
        if missing.any():
            descriptors[missing] = describe(stems[missing])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            embeddings: Tensor = self.encoder(self.mel(stems), descriptors)
        anchor, positive, negative = embeddings.float().chunk(3)
        return info_nce(anchor, positive, negative, self.options.temperature)

    @torch.no_grad()
    def _validate(self) -> float | None:
        """Mean loss over the validation split's own batches, which are the same in every epoch."""
        if self.validation is None:
            return None
        self.encoder.eval()
        steps = [(0, step) for step in range(self.validation.steps_per_epoch)]
        batches = load_batches(self.validation, steps, self.options.workers)
        return sum(self._forward(batch).loss.item() for batch in batches) / len(steps)

    @property
    def _validates(self) -> bool:
        """Whether this step, the last of an epoch or of the run, is followed by a validation."""
        return self._epoch % self.options.validate_every == 0 or self.step == self.total

    def _end_epoch(self, losses: list[float], validation: float | None) -> None:
        """Saves what an epoch's end asks for. An epoch cut short by max_steps counts as one."""
        epoch, options = self._epoch, self.options
        judged = validation if self.validation is not None else sum(losses) / len(losses)
        if judged is not None and judged < self.best_loss:
            self.best_loss = judged
            self._save(BEST, judged)
        if epoch % options.checkpoint_every == 0 and self.step % self.steps_per_epoch == 0:
            self._save(epoch_name(epoch), judged)
        self._save(LATEST, judged)

    @property
    def _epoch(self) -> int:
        """Epochs begun, counted from 1; a finished one counts until the next begins."""
        return -(-self.step // self.steps_per_epoch)

    def _places(self) -> Iterator[tuple[int, int]]:
        for step in range(self.step, self.total):
            yield divmod(step, self.steps_per_epoch)

    def _row(self, result: InfoNCE, norm: float) -> dict[str, float | int | None]:
        watched = (field.name for field in fields(result) if field.name != "loss")
        values = {name: getattr(result, name).item() for name in watched}
        return {
            "step": self.step,
            "epoch": self._epoch,
            "train_loss": result.loss.item(),
            **values,
            "gradient_norm": norm,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
        }

    def _epoch_losses(self) -> list[float]:
        """Losses of the epoch that a resumed run is in the middle of, so that its mean is that of the whole epoch."""
        begun = self.step - self.step % self.steps_per_epoch
        rows = read_loss(self.options.checkpoint_dir / LOSS)
        return [float(row["train_loss"]) for row in rows if begun < int(row["step"]) <= self.step]

    def _save(self, name: str, loss: float | None) -> None:
        content: dict[str, Any] = {
            **describe_encoder(self.encoder, self.mel),
            "settings": plain(self.settings),
            "made_from": self.made_from,
            "epoch": self._epoch,
            "step": self.step,
            "optimizer": self.optimizer.state_dict(),
            "loss": loss,
            "best_loss": self.best_loss,
            "training_seconds": self.seconds,
        }
        save_checkpoint(self.options.checkpoint_dir / name, content)

    def _resume(self) -> None:
        found = newest_checkpoint(self.options.checkpoint_dir, self.device)
        if found is None:
            return
        path, content, torn = found
        for line in torn:
            say(f"train: warning: passed over {line}")
        self.encoder.load_state_dict(content["encoder"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.step, self.best_loss, self.seconds = content["step"], content["best_loss"], content["training_seconds"]
        if self.step < self.total:
            say(f"train: going on from step {self.step} ({path})")

    def _guard(self, rebuild: bool) -> None:
        folder = self.options.checkpoint_dir
        shaping = {name: value for name, value in plain(self.options).items() if name not in NEUTRAL}
        outputs = [*folder.glob("*.pt"), folder / LOSS, *self.options.log_dir.glob("events.out.tfevents.*")]
        notes = {
            "made_from.stems": "the cached stems are others than those it was trained on",
            "made_from.features": "the descriptors are others than those it was trained on",
        }
        guard(
            folder / SETTINGS,
            {**shaping, "made_from": self.made_from},
            stage="train",
            rebuild=rebuild,
            remove=outputs,
            notes=notes,
        )

    def _datasets(self, cache: StemCache, store: FeatureStore, frames: int) -> tuple[Triplets, Triplets | None]:
        rows, options = store.values(), self.options

        def make(tracks: list[CachedTrack], size: int, purpose: Any) -> Triplets:
            return Triplets(
                cache,
                tracks,
                rows,
                RemixSettings(options.aug_prob, options.aug_gain_range_db),
                seed=options.seed,
                batch_size=size,
                clip_frames=frames,
                describe_here=self.device.type == "cpu",
                purpose=purpose,
            )

        by_split = {
            split: [t for t in cache.tracks if t.split == split and len(t.clips) >= 2]
            for split in ("train", "validation")
        }
        training = make(by_split["train"], options.batch_size, "train")
        held = by_split["validation"]
        if len(held) < 2:
            return training, None  # one track has no negatives of others: the training loss judges
        return training, make(held, min(options.batch_size, len(held)), "validation")

    def _write_bad(self, batch: Batch) -> Path:
        path = self.options.checkpoint_dir / f"not_finite_step_{self.step + 1}.json"
        content = {
            "step": self.step + 1,
            "tracks": list(batch.track_ids),
            "remixes": [remix.to_json() for remix in batch.remixes],
        }
        write_json(path, json.loads(json.dumps(content)))
        return path


class _CtrlC:
    """Lets the first Ctrl-C wait for the end of the step, so that what is saved is whole; a second one ends at once."""

    def __init__(self) -> None:
        self.pressed = False
        self._before: Any = None

    def __enter__(self) -> "_CtrlC":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _press(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True
        say("train: stopping after this step; once more to stop at once")


def open_inputs(settings: Settings) -> tuple[StemCache, FeatureStore]:
    """The stems and their descriptors, both finished and belonging together; else MixstyleError says what to run."""
    cache = StemCache(settings.separate.stems_dir)
    if not cache.complete:
        raise MixstyleError(
            f"{cache.stems_dir}: {len(cache.shards)} of {cache.n_shards} shards are there; run `mixstyle separate` "
            "again to finish"
        )
    store = FeatureStore.open(settings.features.features_path)
    if not store.complete or store.shard_sha256 != [shard.sha256 for shard in cache.shards]:
        raise MixstyleError(
            f"{store.path}: does not hold the descriptors of all stems in {cache.stems_dir}; run `mixstyle features`"
        )
    return cache, store


def _shapes(options: TrainSettings, n_descriptors: int) -> tuple[StemMel, EncoderConfig]:
    """The mel and the encoder's sizes; what they refuse is told by the setting's name."""
    try:
        mel = StemMel(SAMPLE_RATE, options.n_fft, options.hop_length, options.n_mels)
        config = EncoderConfig(
            n_mels=options.n_mels,
            band_mels=options.band_mels,
            band_step=options.band_step,
            channels=(options.channels[0], options.channels[1]),
            dropout=options.dropout,
            encoder_dim=options.encoder_dim,
            film_hidden=options.film_hidden,
            n_descriptors=n_descriptors,
        )
    except ValueError as error:
        raise MixstyleError(f"train: {error}") from error
    return mel, config
