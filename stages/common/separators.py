"""The separator that the settings name, for every command that separates."""

from pathlib import Path
from typing import Protocol

import torch

from mixstyle.pipeline.separation.separator import Precision, Separator, load_separator
from mixstyle.stages.common.assets import shipped


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


def configured_separator(chosen: SeparatorSettings, device: torch.device) -> Separator | None:
    """The separator of `separate.separator_config` and `separate.separator_checkpoint` on a device.

    None where the stems exist already (`separate.input=stems`). Raises MixstyleError as `load_separator` does.
    """
    if chosen.input == "stems":
        return None
    return load_separator(
        shipped(chosen.separator_config),
        shipped(chosen.separator_checkpoint),
        device,
        chosen.precision,
        num_overlap=chosen.num_overlap,
    )
