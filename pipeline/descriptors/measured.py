"""What the descriptors are made of: the powers, loudnesses and spectra of all stems of some clips."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ, RATIO_LIMIT_DB, RMS_FLOOR_DBFS
from mixstyle.pipeline.descriptors.loudness import gated_loudness, mean_square, weighted_step_power
from mixstyle.pipeline.descriptors.spectrum import MARGIN, analyse, sum_and_difference

SILENT_POWER = 10 ** (RMS_FLOOR_DBFS / 10)
_SPECTRUM_SHARE = 1e-9  # of a stem's energy: what float32 transforms leave of a constant is below


@dataclass(frozen=True)
class Measured:
    """B clips; every tensor but the mix's has a leading [B, 4], in the order of `STEMS`."""

    stems: Tensor
    """[B, 4, 2, T] float32, full scale 1."""
    sample_rate: int
    """Hz"""
    left: Tensor
    right: Tensor
    mid: Tensor
    side: Tensor
    """Mean squares of l, r, l + r and l - r."""
    peak: Tensor
    """Largest absolute sample."""
    lufs: Tensor
    """Integrated loudness."""
    mix_lufs: Tensor
    """[B]: that of the sum of the stems."""
    bands: Tensor
    """[B, 4, 2, bands]: mean squares of m and of s in the octaves, then in the regions low, mid and high."""
    flatness_db: Tensor
    coarse_tiles: Tensor
    fine_tiles: Tensor
    """[B, 4, frames, ERB bands]: mean squares below and above the crossover."""
    masked: Tensor | None = None
    """[B, 4, 7], where they were counted already: the mean of a stem's tiles, and the sums of `group_masking`."""

    def each(self) -> "Iterator[Measured]":
        """The clips one by one, each a batch of 1."""
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        for clip in range(len(self.stems)):
            yield replace(self, **{name: value[clip : clip + 1] for name, value in tensors.items()})

    @property
    def power(self) -> Tensor:
        """Mean square over both channels."""
        return (self.left + self.right) / 2

    @property
    def silent(self) -> Tensor:
        return self.power < SILENT_POWER

    @property
    def spectrum_silent(self) -> Tensor:
        """Stems whose octaves hold only rounding errors."""
        in_octaves = self.bands[..., : len(OCTAVES_HZ)].sum((-1, -2))
        return self.silent | (in_octaves <= _SPECTRUM_SHARE * (self.mid + self.side))


def measure(stems: Tensor, sample_rate: int) -> Measured:
    """Measures clips [B, 4, 2, T] float32."""
    steps, mix_steps = weighted_step_power(stems, sample_rate)
    parts = [_measure_stem(stem, sample_rate) for stem in stems.unbind(1)]
    together = {name: torch.stack([part[name] for part in parts], 1) for name in parts[0]}
    lufs, mix_lufs = gated_loudness(steps), gated_loudness(mix_steps)
    return Measured(stems=stems, sample_rate=sample_rate, lufs=lufs, mix_lufs=mix_lufs, **together)


def _measure_stem(stem: Tensor, sample_rate: int) -> dict[str, Tensor]:
    """Measures one stem [B, 2, T] of several clips."""
    samples = stem.shape[-1]
    mid_side = sum_and_difference(stem)
    powers = nan_unless_finite(mean_square(stem))
    ms_powers = nan_unless_finite(mean_square(mid_side[..., MARGIN : MARGIN + samples]))
    return {
        "left": powers[..., 0],
        "right": powers[..., 1],
        "mid": ms_powers[..., 0],
        "side": ms_powers[..., 1],
        "peak": torch.maximum(stem.amax((-1, -2)), -stem.amin((-1, -2))),
        **vars(analyse(mid_side, samples, sample_rate)),
    }


def nan_unless_finite(power: Tensor) -> Tensor:
    """Infinity would pass for a ratio at its limit."""
    return power + (power - power)


def ratio_db(a: Tensor, b: Tensor) -> Tensor:
    """a over b of two powers, in dB within RATIO_LIMIT_DB."""
    return (decibels(a) - decibels(b)).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)


def decibels(power: Tensor) -> Tensor:
    """Decibels, finite for 0: float32's smallest normal number, -379 dB, is below every floor."""
    return 10 * torch.log10(power.clamp(min=torch.finfo(power.dtype).tiny))
