"""The public separator that profiles name, and what is told where it is not there yet."""

from pathlib import Path

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import SEPARATOR, shipped

PUBLIC = (
    "https://github.com/ZFTurbo/Music-Source-Separation-Training/releases/download/v1.0.17/"
    "model_scnet_masked_ep_111_sdr_9.8286.ckpt"
)
"""The public separator that the profile `fma` names."""


def check_separator(separator_checkpoint: Path) -> None:
    """Raises MixstyleError (not-found) with the command that brings it, where the public separator is not there yet."""
    checkpoint = shipped(separator_checkpoint)
    if checkpoint.is_file() or checkpoint.name != PUBLIC.rpartition("/")[2]:
        return
    elsewhere = () if checkpoint.parent == SEPARATOR.parent else ("--output", str(checkpoint))
    raise MixstyleError(
        f"{checkpoint}: the separator is not there yet; to get it,",
        code="not-found",
        remedy=("fetch-separator", PUBLIC, *elsewhere),
    )
