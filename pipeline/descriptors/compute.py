"""What a mixing engineer could read off the stems of a clip: dynamics, spectrum, stereo image, masking.

`describe` is one function for the store and for the negatives of training; DESCRIPTORS is the table of its columns,
and docs/descriptors.md is that table with the method. Everything is float32 on the stems' own device; the values do
not depend on which other clips are in the batch.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.descriptor import Descriptor
from mixstyle.pipeline.descriptors.k_weighting import BLOCK_STEPS, step_samples
from mixstyle.pipeline.descriptors.measured import Measured, measure
from mixstyle.pipeline.descriptors.table import DECLARED, DESCRIPTORS, DESCRIPTORS_VERSION

if TYPE_CHECKING:
    from mixstyle.pipeline.descriptors.kernels.measure import MeasureKernel

__all__ = ["DESCRIPTORS", "DESCRIPTORS_VERSION", "Describe", "Descriptor", "describe"]

Describe = Callable[[Tensor], Tensor]
"""Descriptors [B, D] of stems [B, 4, 2, T] at SAMPLE_RATE: `describe`, or it with a kernel."""

_CLIPS_AT_ONCE = {"cpu": 1}  # on CPUs one stem's frames then stay in the cache
_CLIPS_AT_ONCE_ELSEWHERE = 16


def describe(stems: Tensor, sample_rate: int = SAMPLE_RATE, *, kernel: "MeasureKernel | None" = None) -> Tensor:
    """Descriptors [B, D] float32 of stems [B, 4, 2, T], full scale 1; column i is what DESCRIPTORS[i] says.

    kernel: measures stems on the CPU in place of torch, several times as fast; values differ in their last bits.

    Every value is finite for finite audio (up to 10^15 of full scale); where the audio is not, neither is what is
    measured of that stem, nor any masking. Raises ValueError for another shape, for clips below 400 ms, and for
    a rate that is no multiple of 10 Hz or does not reach 16 kHz.

    >>> describe(torch.zeros(3, 4, 2, 44_100)).shape[1] == len(DESCRIPTORS)
    True
    """
    if stems.ndim != 4 or stems.shape[1:3] != (len(STEMS), 2):
        raise ValueError(f"stems should be [B, {len(STEMS)}, 2, T], not {list(stems.shape)}")
    shortest = BLOCK_STEPS * step_samples(sample_rate)
    if stems.shape[-1] < shortest:
        raise ValueError(f"a clip of {stems.shape[-1]} samples is too short: descriptors need {shortest} (400 ms)")
    if len(stems) == 0:
        return stems.new_zeros((0, len(DESCRIPTORS)), dtype=torch.float32)
    with torch.autocast(stems.device.type, enabled=False):
        if kernel is not None and stems.device.type == "cpu":
            return torch.cat([_values(clip) for clip in kernel.measure(stems.float(), sample_rate).each()])
        at_once = _CLIPS_AT_ONCE.get(stems.device.type, _CLIPS_AT_ONCE_ELSEWHERE)
        return torch.cat([_values(measure(clips.float(), sample_rate)) for clips in stems.split(at_once)])


def _values(measured: Measured) -> Tensor:
    values = torch.cat([group.measure(measured) for group in DECLARED], -1).flatten(1)
    if values.shape[1] != len(DESCRIPTORS):
        raise ValueError(f"the groups of descriptors gave {values.shape[1]} values for {len(DESCRIPTORS)} descriptors")
    return values
