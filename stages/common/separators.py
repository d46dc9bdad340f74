"""The separator that the settings name, for every command that separates, and what is to be told of it."""

from functools import cache
from pathlib import Path
from typing import Protocol

import torch

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation import separator as separation
from mixstyle.pipeline.separation.separator import Precision, Separator
from mixstyle.pipeline.separation.separator_checkpoint import digest, read_state_dict
from mixstyle.stages.common.assets import FIRST_SEPARATOR, SEPARATOR, check_shipped, shipped
from mixstyle.stages.common.notes import note
from mixstyle.stages.common.public_separator import PUBLIC, check_separator

_SMALL = "note: the separator is the small one that mixstyle ships, for trying things and not for research"
SMALL = f"{_SMALL}; for a public one run: mixstyle fetch-separator {PUBLIC}"
SMALL_FOR_ENCODER = f"{_SMALL}; another separator needs an encoder that was trained on its stems"
"""Where stems are embedded: a separator that the encoder has not seen would move embeddings."""


class SeparatorSettings(Protocol):
    """The settings that a separator follows from; `SeparateSettings` holds them."""

    @property
    def input(self) -> str: ...

    @property
    def separator_config(self) -> Path: ...

    @property
    def separator_checkpoint(self) -> Path: ...

    @property
    def precision(self) -> Precision: ...

    @property
    def num_overlap(self) -> int | None: ...


def load_separator(
    config_path: str | Path,
    checkpoint_path: str | Path,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    *,
    num_overlap: int | None = None,
    batch_chunks: int = 1,
) -> Separator:
    """Loads a separator from MSST's YAML and a checkpoint (.ckpt, .pt, .th or .safetensors).

    Its network is one of `architectures.registry`, and the YAML tells which. Those that mixstyle ships are compared
    with what was shipped.

    num_overlap: instead of the YAML's. batch_chunks: chunks that go through the network together.
    Raises MixstyleError, naming the file, where the two do not fit or cannot be loaded.
    """
    for path in (config_path, checkpoint_path):
        check_shipped(path)
    return separation.load_separator(
        config_path, checkpoint_path, device, precision, num_overlap=num_overlap, batch_chunks=batch_chunks
    )


def configured_separator(
    chosen: SeparatorSettings, device: torch.device, *, to_separate: bool = True, for_encoder: bool = False
) -> Separator | None:
    """The separator of `separate.separator_config` and `separate.separator_checkpoint` on a device.

    None where the stems exist already (`separate.input=stems`). to_separate: it is to be used, not only looked at: the
    command then tells, once, where it is the small one. for_encoder: its stems are to be embedded.
    Raises MixstyleError as `load_separator` does.
    """
    if chosen.input == "stems":
        return None
    check_separator(chosen.separator_checkpoint)
    separator = load_separator(
        shipped(chosen.separator_config),
        shipped(chosen.separator_checkpoint),
        device,
        chosen.precision,
        num_overlap=chosen.num_overlap,
    )
    if to_separate:
        tell_small(separator, for_encoder)
    return separator


def tell_small(separator: Separator, for_encoder: bool = False) -> None:
    """Tells, once a run, that a separator is the small one, and how to get another, or for_encoder what that asks."""
    if is_small(separator):
        note(SMALL_FOR_ENCODER if for_encoder else SMALL)


def is_small(separator: Separator) -> bool:
    """Whether a separator has the weights of one that is shipped, or was, wherever its files are."""
    return separator.weights in {_weights_of(path) for path in (SEPARATOR, FIRST_SEPARATOR)} - {""}


@cache
def _weights_of(path: Path) -> str:
    """The digest of a shipped separator's weights as `load_separator` has them; empty where there is none."""
    try:
        state = read_state_dict(shipped(path))
    except MixstyleError:
        return ""
    return digest({name: value.float() if value.is_floating_point() else value for name, value in state.items()})


def other_separator(encoder: LoadedEncoder, separator: Separator) -> str:
    """What to tell where an encoder has not seen a separator's stems in training; empty where it has, or may have."""
    if not encoder.separators or any(record.is_of(separator) for record in encoder.separators):
        return ""
    seen = ", ".join(map(str, encoder.separators))
    return (
        f"warning: the encoder was trained on stems of another separator: {seen}, not {separator.name or 'this one'} "
        f"({separator.fingerprint}); errors of another separator change embeddings. Set "
        "separate.separator_config and separate.separator_checkpoint to that one, or train an encoder on stems of this "
        "one"
    )
