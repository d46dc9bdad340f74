"""Brings clips to one loudness before they are encoded: how loud a file was mastered is not how it was mixed."""

import torch
from torch import Tensor

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.loudness import MOST_GAIN_DB
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS

FLOORS = {"dBFS": -120.0, "LUFS": LOUDNESS_FLOOR_LUFS}
"""What descriptors that move with level say of silence, by their unit."""

_LOUDNESS = [COLUMN[f"{stem}_loudness_lufs"] for stem in STEMS]
_RELATIVE = [COLUMN[f"{stem}_relative_loudness_lu"] for stem in STEMS]
_MOVING = [column for column, d in enumerate(DESCRIPTORS) if d.moves_with_level]
_LEAST = [FLOORS[DESCRIPTORS[column].unit] for column in _MOVING]


def gains_db(descriptors: Tensor, target_lufs: float) -> Tensor:
    """Gains in dB [B] that bring clips with the descriptors [B, D] to an integrated loudness of their mix (BS.1770-4).

    The mix's loudness is that of the loudest stem less what this stem has against the mix. Silence, which has none,
    gets 0 dB.
    """
    stems, relative = descriptors[:, _LOUDNESS], descriptors[:, _RELATIVE]
    loudest = stems.argmax(1, keepdim=True)
    loudness = stems.gather(1, loudest)[:, 0]
    gain = (target_lufs - loudness + relative.gather(1, loudest)[:, 0]).clamp(-MOST_GAIN_DB, MOST_GAIN_DB)
    return torch.where(loudness > LOUDNESS_FLOOR_LUFS, gain, 0.0)


def is_heard(descriptors: Tensor) -> Tensor:
    """Whether clips with the descriptors [B, D] are not silent: bool [B]."""
    return (descriptors[:, _LOUDNESS] > LOUDNESS_FLOOR_LUFS).any(1)


def levelled(stems: Tensor, gains: Tensor) -> Tensor:
    """Stems [B, 4, 2, T] under gains in dB [B]."""
    return stems * (10 ** (gains / 20)).to(stems)[:, None, None, None]


def levelled_descriptors(descriptors: Tensor, gains: Tensor) -> Tensor:
    """What describes clips under gains in dB [B], from the descriptors [B, D] of the clips as they were.

    Levels move by the gain and end at their floors; what lay at its floor stays there: how far below it was, nobody
    knows. All others are the same at any level.
    """
    least = torch.tensor(_LEAST, dtype=descriptors.dtype, device=descriptors.device)
    moving = descriptors[:, _MOVING]
    moved = torch.where(moving > least, torch.maximum(moving + gains.to(moving)[:, None], least), moving)
    out = descriptors.clone()
    out[:, _MOVING] = moved
    return out
