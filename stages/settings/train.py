"""Settings of `mixstyle train`: the encoder."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from mixstyle.stages.common import limits
from mixstyle.stages.settings.base import (
    STRICT,
    ContradictionError,
    Device,
    Location,
    LocationOrUrl,
    NamedDevice,
    Number,
    Several,
    of_one_kind,
    setting,
)

Channels = Annotated[int, Field(ge=1, le=limits.WIDTH)]
Effects = Annotated[int, Field(ge=1, le=limits.EFFECTS)]


@dataclass(frozen=True, config=STRICT)
class TrainSettings:
    """`mixstyle train`: the encoder.

    Defaults are the values that the published text names; where it names none, our own. The author's public code has
    others: docs/training.md, "What is published where, and what we do".
    """

    checkpoint_dir: LocationOrUrl = setting(Path("checkpoints"))
    """The folder that checkpoints and the log of losses go to, or its URL."""
    log_dir: Location = setting(Path("logs"))
    """The folder that TensorBoard's files go to."""
    device: Device = setting("auto")
    """Where the encoder is trained: auto, cpu, cuda or cuda:N."""
    devices: Several[NamedDevice] = setting((), max_length=limits.PROCESSES)
    """A process on each of these devices of one kind; instead of `device` and `processes`."""
    precision: Literal["auto", "fp32", "bf16"] = setting("auto", shapes_output=True)
    """`auto`: bf16 autocast on CUDA, fp32 on a CPU."""
    seed: int = setting(0, unit="1", ge=0, le=limits.SEED, shapes_output=True)
    """Draws the first weights, the order of tracks, clips and effects."""
    batch_size: int = setting(24, unit="tracks", ge=2, le=limits.BATCH, shapes_output=True)
    """Tracks in a batch; each gives an anchor, a positive and a negative. Of a bank: groups, with all their clips."""
    num_epochs: int = setting(100, unit="epochs", ge=1, le=limits.COUNT)
    """Passes over the training tracks."""
    max_steps: int = setting(0, unit="steps", ge=0, le=limits.COUNT)
    """Stops after that many optimiser steps; 0 goes by num_epochs alone."""
    steps_per_epoch: int = setting(0, unit="steps", ge=0, le=limits.COUNT, shapes_output=True)
    """Optimiser steps of an epoch; 0: every training track once."""
    learning_rate: Number = setting(2e-4, unit="1", gt=0, le=limits.LEARNING_RATE, shapes_output=True)
    """AdamW's learning rate, after `warmup_steps`."""
    weight_decay: Number = setting(0.01, unit="1", ge=0, le=limits.WEIGHT_DECAY, shapes_output=True)
    """AdamW's weight decay."""
    temperature: Number = setting(0.1, unit="1", ge=limits.LEAST_TEMPERATURE, le=limits.TEMPERATURE, shapes_output=True)
    """InfoNCE's temperature: cosines are divided by it."""
    clip_duration_s: Number = setting(10.0, ge=limits.LEAST_CLIP_S, le=limits.CLIP_S, shapes_output=True)
    """Seconds of each cached clip that are used; a shorter crop is drawn in each step. Of spectrograms that were
    kept, validation uses the whole."""
    n_fft: int = setting(1024, unit="samples", ge=1, le=limits.SAMPLES, shapes_output=True)
    """Length of a frame of the mel spectrogram."""
    hop_length: int = setting(256, unit="samples", ge=1, le=limits.SAMPLES, shapes_output=True)
    """From one frame's start to the next."""
    n_mels: int = setting(128, unit="mels", ge=1, le=limits.WIDTH, shapes_output=True)
    """Mel bands of the spectrogram."""
    band_mels: int = setting(20, unit="mels", ge=1, le=limits.WIDTH, shapes_output=True)
    """Mels in a sub-band."""
    band_step: int = setting(10, unit="mels", ge=1, le=limits.WIDTH, shapes_output=True)
    """Mels from one sub-band's start to the next."""
    channels: Several[Channels] = setting((32, 64), unit="channels", min_length=2, max_length=2, shapes_output=True)
    """Channels of the two convolutions of a sub-band."""
    dropout: Number = setting(0.1, unit="1", ge=0, lt=1, shapes_output=True)
    """Share of activations that are set to 0 in training."""
    encoder_dim: int = setting(768, unit="dimensions", ge=1, le=limits.WIDTH, shapes_output=True)
    """Length of the embedding."""
    film_hidden: int = setting(128, unit="units", ge=1, le=limits.WIDTH, shapes_output=True)
    """Hidden units of the network that turns descriptors into FiLM's gamma and beta."""
    pooling: Literal["mean", "statistics"] = setting("mean", shapes_output=True)
    """What temporal attention gives of a clip's frames: their mean, or their mean and their standard deviation."""
    channel_pairs: Literal["left-right", "mid-side"] = setting("left-right", shapes_output=True)
    """The two channels of each stem that the encoder sees."""
    descriptor_skip: bool = setting(False, shapes_output=True)
    """Add whitened descriptors to the embedding, which then starts as they are and learns beyond them."""
    descriptor_share: Number = setting(0.0, unit="1", ge=0, le=limits.WEIGHT, shapes_output=True)
    """Length of whitened descriptors that stay in the embedding as they are, beside its trained part of length 1."""
    input_lufs: Number | None = setting(None, unit="LUFS", ge=limits.LEAST_LUFS, le=0, shapes_output=True)
    """The loudness that every clip is brought to before it is encoded, in training and in use; null: none."""
    part_s: Number | None = setting(None, ge=limits.LEAST_CLIP_S, le=limits.CLIP_S, shapes_output=True)
    """In use, longer clips are embedded in equal parts of about this length; the mean of the parts counts. Best as long
    as the clips of the training; null: clips are embedded whole."""
    aug_prob: Number = setting(0.5, unit="1", ge=0, le=1, shapes_output=True)
    """Probability of each effect on each stem of a negative; at least one effect is always drawn."""
    aug_gain_range_db: Number = setting(9.0, ge=0, le=limits.RANGE_DB, shapes_output=True)
    """Gains are drawn within plus and minus this."""
    aug_effects: Several[str] = setting(("gain", "tilt", "compression", "bandwidth", "reverb"), shapes_output=True)
    """Which effects are drawn: some of those of `mixstyle.pipeline.mixing.effects`."""
    aug_mix_prob: Number = setting(0.0, unit="1", ge=0, le=1, shapes_output=True)
    """Probability of each effect on the mix."""
    aug_shuffle: bool = setting(False, shapes_output=True)
    """Draw the order of a chain's effects."""
    loudness_match: bool = setting(False, shapes_output=True)
    """A remix gets the loudness of what it was made from, so that level alone gives nothing away."""
    chain_effects: Several[Effects] = setting((), unit="effects", max_length=2, shapes_output=True)
    """[least, most]: draw chains as `mixstyle evaluate` does, of that many effects each; []: by aug_*."""
    start_from: LocationOrUrl | None = setting(None)
    """A checkpoint or an exported encoder to start from (fine-tuning), its URL, or `shipped`; null: random weights."""
    objective: str = setting("same-song", shapes_output=True)
    """What belongs together: one of `mixstyle.pipeline.encoder.objectives`."""
    fx_normalise: bool = setting(False, shapes_output=True)
    """Bring all stems to the training songs' median spectrum, stereo image and loudness before effects are applied."""
    chain_weight: Number = setting(0.0, unit="1", ge=0, le=limits.WEIGHT, shapes_output=True)
    """Weight of the loss of a head that tells the effects' parameters: from two embeddings, of a bank's clips from one;
    0: no head."""
    keep_mels: bool = setting(False)
    """Keep a bank's spectrograms in `mels_dir`: worth it where making them takes longer than reading them."""
    mels_dir: Location = setting(Path("cache/mels"))
    """Where spectrograms are kept."""
    schedule: Literal["constant", "cosine"] = setting("constant", shapes_output=True)
    """What the learning rate does after `warmup_steps`."""
    warmup_steps: int = setting(0, unit="steps", ge=0, le=limits.COUNT, shapes_output=True)
    """Steps over which the learning rate rises from 0."""
    accumulate: int = setting(1, unit="parts", ge=1, le=limits.BATCH, shapes_output=True)
    """Micro-batches that a batch goes through the encoder in: less memory, the same negatives, a second pass."""
    processes: int = setting(1, unit="processes", ge=1, le=limits.PROCESSES)
    """Processes that share each batch, one a GPU; also on CPUs."""
    on_not_finite: Literal["stop", "skip"] = setting("stop")
    """What a NaN or infinite loss or gradient does, after its batch was written down."""
    map_every: int = setting(10, unit="epochs", ge=0, le=limits.COUNT)
    """Epochs between retrieval and maps of the validation songs in TensorBoard; 0: never."""
    reader: Literal["auto", "random", "stream"] = setting("auto")
    """How stems are read: `random`, clip by clip in any order; `stream`, shard by shard through a buffer that shuffles;
    `auto`: stream from a URL, random from a folder."""
    stream_buffer_tracks: int = setting(96, unit="tracks", ge=2, le=limits.COUNT)
    """Tracks that `stream` keeps in memory to draw from, in each process; batch_size or more."""
    stems_url: str = setting("")
    """Where the shards are, if not in separate.stems_dir: any URL that fsspec knows, such as s3://bucket/stems."""
    stems_cache_dir: Location = setting(Path("cache/remote"))
    """Keeps what was read from stems_url."""
    stems_cache_gb: Number = setting(20.0, ge=0, le=limits.STORE_GB)
    """How much of it, at most."""
    workers: int = setting(2, unit="processes", ge=0, le=limits.PROCESSES)
    """Processes that load and mix clips, for each of `processes`; 0 does it in the training process."""
    threads: int = setting(0, unit="threads", ge=0, le=limits.PROCESSES)
    """CPU threads of each training process; 0 shares out the cores."""
    checkpoint_every: int = setting(5, unit="epochs", ge=1, le=limits.COUNT)
    """Epochs between checkpoint_epoch_X.pt."""
    save_every_steps: int = setting(100, ge=1, le=limits.COUNT)
    """Steps between the checkpoints that a killed run resumes from."""
    validate_every: int = setting(1, unit="epochs", ge=1, le=limits.COUNT)
    """Epochs between validations."""

    @property
    def process_count(self) -> int:
        """Processes on this machine: one on each of `devices`, else `processes`."""
        return len(self.devices) or self.processes

    @model_validator(mode="after")
    def _fits(self) -> "TrainSettings":
        if self.devices and self.processes not in (1, len(self.devices)):
            raise ContradictionError(
                "processes", f"should be left out, because train.devices names {len(self.devices)} devices"
            )
        if not of_one_kind(self.devices):
            raise ContradictionError("devices", "should all be of one kind")
        if self.batch_size % self.process_count:
            raise ContradictionError("batch_size", f"cannot be shared evenly by {self.process_count} processes")
        if not self.band_step <= self.band_mels <= self.n_mels:
            raise ContradictionError("band_step", "should be at most train.band_mels, and that at most train.n_mels")
        if self.hop_length > self.n_fft:
            raise ContradictionError(
                "hop_length", f"is longer than train.n_fft={self.n_fft}: frames would skip samples"
            )
        if self.chain_effects and (len(self.chain_effects) != 2 or self.chain_effects[0] > self.chain_effects[1]):
            raise ContradictionError("chain_effects", "should be [least, most], or []")
        return self
