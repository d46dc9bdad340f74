"""The separator that the settings name, for every command that separates, and what is to be told of it."""

from functools import cache
from pathlib import Path
from typing import Protocol

import torch

from mixstyle.cache.models.checkpoints import LoadedEncoder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import Precision, Separator, load_separator
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
    check_shipped(chosen.separator_checkpoint)
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
