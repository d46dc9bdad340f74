"""Settings of the encoder's training."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mixstyle.stages.settings.base import Device


@dataclass(frozen=True)
class TrainSettings:
    """`mixstyle train`: the encoder.

    Defaults are the values that the published text names; where it names none, our own. The author's public code has
    others: docs/training.md, "What is published where, and what we do".
    """

    checkpoint_dir: Path = Path("checkpoints")
    log_dir: Path = Path("logs")
    device: Device = "auto"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto`: bf16 autocast on CUDA, fp32 on a CPU."""
    seed: int = 0
    batch_size: int = 24
    """Tracks in a batch; each gives an anchor, a positive and a negative."""
    num_epochs: int = 100
    max_steps: int = 0
    """Stops after that many optimiser steps; 0 goes by num_epochs alone."""
    steps_per_epoch: int = 0
    """0: every training track once an epoch."""
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    temperature: float = 0.1
    clip_duration_s: float = 10.0
    """Seconds of each cached clip that are used; a shorter crop's place is drawn anew each step."""
    n_fft: int = 1024
    hop_length: int = 256
    n_mels: int = 128
    band_mels: int = 20
    """Mels in a sub-band."""
    band_step: int = 10
    """Mels from one sub-band's start to the next."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of the two convolutions of a sub-band."""
    dropout: float = 0.1
    encoder_dim: int = 768
    film_hidden: int = 128
    """Hidden units of the network that turns descriptors into FiLM's gamma and beta."""
    aug_prob: float = 0.5
    """Probability of each effect on each stem of a negative; at least one effect is always drawn."""
    aug_gain_range_db: float = 9.0
    """Gains are drawn within plus and minus this."""
    aug_effects: tuple[str, ...] = ("gain", "tilt", "compression", "bandwidth", "reverb")
    """Which effects are drawn: some of those of `mixstyle.pipeline.mixing.effects`."""
    aug_mix_prob: float = 0.0
    """Probability of each effect on the mix."""
    aug_shuffle: bool = False
    """Draw the order of a chain's effects."""
    loudness_match: bool = False
    """A remix gets the loudness of what it was made from, so that level alone gives nothing away."""
    style_effects: tuple[int, ...] = ()
    """[least, most]: draw chains as the styles of `mixstyle evaluate`, of that many effects each; []: by aug_*."""
    objective: str = "same-song"
    """What belongs together: one of `mixstyle.pipeline.encoder.objectives`."""
    fx_normalise: bool = False
    """Bring all stems to the training songs' median spectrum, stereo image and loudness before effects are applied."""
    chain_weight: float = 0.0
    """Weight of the loss of a head that tells the effects' parameters from two embeddings; 0: no head."""
    schedule: Literal["constant", "cosine"] = "constant"
    """What the learning rate does after `warmup_steps`."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    accumulate: int = 1
    """Micro-batches that a batch goes through the encoder in: less memory, the same negatives, a second pass."""
    processes: int = 1
    """Processes that share each batch, one a GPU; also on CPUs."""
    on_not_finite: Literal["stop", "skip"] = "stop"
    """What a NaN or infinite loss or gradient does, after its batch was written down."""
    map_every: int = 10
    """Epochs between retrieval and maps of the validation songs in TensorBoard; 0: never."""
    stems_url: str = ""
    """Where the shards lie, if not in separate.stems_dir: any URL that fsspec knows, such as s3://bucket/stems."""
    stems_cache_dir: Path = Path("cache/remote")
    """Keeps what was read from stems_url."""
    stems_cache_gb: float = 20.0
    """How much of it, at most."""
    workers: int = 2
    """Processes that load and mix clips, for each of `processes`."""
    threads: int = 0
    checkpoint_every: int = 5
    """Epochs between checkpoint_epoch_X.pt."""
    save_every_steps: int = 100
    """Steps between the checkpoints that a killed run resumes from."""
    validate_every: int = 1
    """Epochs between validations."""
