"""What a mixing engineer could read off the stems of a clip: dynamics, spectrum, stereo image, masking.

`describe` is one function for the store and for the negatives of training; DESCRIPTORS is the table of its columns,
and docs/descriptors.md is that table with the method. Everything is float32 on the stems' own device; the values do
not depend on which other clips are in the batch.
"""

import sys
from dataclasses import dataclass

import torch
from torch import Tensor

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.loudness import (
    BLOCK_STEPS,
    LOUDNESS_FLOOR_LUFS,
    gated_loudness,
    mean_square,
    step_samples,
    weighted_step_power,
)
from mixstyle.pipeline.descriptors.spectrum import MARGIN, analyse, sum_and_difference
from mixstyle.pipeline.descriptors.table import (
    ACTIVE_DB,
    BAND_FLOOR_DB,
    DESCRIPTORS,
    DESCRIPTORS_VERSION,
    FLATNESS_FLOOR_DB,
    MASKING_LIMIT_DB,
    OCTAVES_HZ,
    RATIO_LIMIT_DB,
    RMS_FLOOR_DBFS,
    TILT_OCTAVES,
    Descriptor,
    markdown,
)

__all__ = ["DESCRIPTORS", "DESCRIPTORS_VERSION", "Descriptor", "describe"]

_SILENT_POWER = 10 ** (RMS_FLOOR_DBFS / 10)
_SPECTRUM_SHARE = 1e-9  # of a stem's energy: what float32 transforms leave of a constant lies below
_CLIPS_AT_ONCE = {"cpu": 1}  # on CPUs one stem's frames then stay in the cache
_CLIPS_AT_ONCE_ELSEWHERE = 16


def describe(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Descriptors [B, D] float32 of stems [B, 4, 2, T], full scale 1; column i is what DESCRIPTORS[i] says.

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
    at_once = _CLIPS_AT_ONCE.get(stems.device.type, _CLIPS_AT_ONCE_ELSEWHERE)
    with torch.autocast(stems.device.type, enabled=False):
        return torch.cat([_describe(clips.float(), sample_rate) for clips in stems.split(at_once)])


@dataclass(frozen=True)
class _Measured:
    """What the descriptors are made of; each with a leading [B, 4] once the stems are put together."""

    left: Tensor
    right: Tensor
    mid: Tensor
    side: Tensor
    """Mean squares of l, r, l + r and l - r."""
    peak: Tensor
    steps: Tensor
    """K-weighted mean squares [.., 2, steps]."""
    bands: Tensor
    flatness_db: Tensor
    coarse_tiles: Tensor
    fine_tiles: Tensor

    @property
    def power(self) -> Tensor:
        """Mean square over both channels."""
        return (self.left + self.right) / 2

    @property
    def silent(self) -> Tensor:
        return self.power < _SILENT_POWER

    @property
    def spectrum_silent(self) -> Tensor:
        """Stems whose octaves hold nothing but rounding."""
        in_octaves = self.bands[..., : len(OCTAVES_HZ)].sum((-1, -2))
        return self.silent | (in_octaves <= _SPECTRUM_SHARE * (self.mid + self.side))


def _describe(stems: Tensor, sample_rate: int) -> Tensor:
    steps, mix_steps = weighted_step_power(stems, sample_rate)
    measured = [_measure(stem, steps[:, i], sample_rate) for i, stem in enumerate(stems.unbind(1))]
    together = _Measured(**{name: torch.stack([vars(m)[name] for m in measured], 1) for name in vars(measured[0])})
    mix_lufs = gated_loudness(mix_steps)
    groups = (_dynamics(together, mix_lufs), _spectral(together), _stereo(together), _masking(together))
    return torch.cat(groups, -1).flatten(1)


def _measure(stem: Tensor, steps: Tensor, sample_rate: int) -> _Measured:
    """Measures one stem [B, 2, T] of several clips."""
    samples = stem.shape[-1]
    mid_side = sum_and_difference(stem)
    powers = _nan_unless_finite(mean_square(stem))
    ms_powers = _nan_unless_finite(mean_square(mid_side[..., MARGIN : MARGIN + samples]))
    return _Measured(
        left=powers[..., 0],
        right=powers[..., 1],
        mid=ms_powers[..., 0],
        side=ms_powers[..., 1],
        peak=torch.maximum(stem.amax((-1, -2)), -stem.amin((-1, -2))),
        steps=steps,
        **vars(analyse(mid_side, samples, sample_rate)),
    )


def _dynamics(m: _Measured, mix_lufs: Tensor) -> Tensor:
    crest_db = _db(m.peak.square()) - _db(m.power)
    lufs = gated_loudness(m.steps)
    relative_lu = (lufs - mix_lufs[:, None]).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    peak_lu = (_db(m.peak.square()) - lufs).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    ungated = lufs <= LOUDNESS_FLOOR_LUFS
    values = (
        _db(m.left).clamp(min=RMS_FLOOR_DBFS),
        _db(m.right).clamp(min=RMS_FLOOR_DBFS),
        torch.where(m.silent, 0.0, crest_db),
        lufs,
        torch.where(ungated, -RATIO_LIMIT_DB, relative_lu),
        torch.where(ungated, 0.0, peak_lu),
    )
    return torch.stack(values, -1)


def _spectral(m: _Measured) -> Tensor:
    energy = m.bands.sum(-2)
    count = len(OCTAVES_HZ)
    total = energy[..., :count].sum(-1, keepdim=True)
    level_db = (_db(energy) - _db(total)).clamp(min=BAND_FLOOR_DB)
    silent = m.spectrum_silent
    level_db = torch.where(silent[..., None], BAND_FLOOR_DB, level_db)
    flatness_db = torch.where(silent, FLATNESS_FLOOR_DB, m.flatness_db)
    tilt = torch.where(silent, 0.0, _tilt(level_db[..., :count]))
    return torch.cat([level_db[..., count:], level_db[..., :count], torch.stack([tilt, flatness_db], -1)], -1)


def _tilt(octaves_db: Tensor) -> Tensor:
    """Slope in dB per octave of octave levels [..., octaves] taken as densities."""
    used = octaves_db[..., TILT_OCTAVES]
    octave = torch.arange(used.shape[-1], dtype=used.dtype, device=used.device)
    octave = octave - octave.mean()
    slope = (used * octave).sum(-1) / octave.square().sum()
    return slope - _DENSITY_DB_PER_OCTAVE


_DENSITY_DB_PER_OCTAVE = 3.010299956639812  # 10 log10 2: each octave is twice as wide as the one below


def _stereo(m: _Measured) -> Tensor:
    both = m.left * m.right
    correlation = (m.mid - m.side) / 4 / both.clamp(min=torch.finfo(both.dtype).tiny).sqrt()
    dead = torch.minimum(m.left, m.right) < _SILENT_POWER
    regions = m.bands[..., len(OCTAVES_HZ) :]
    empty = regions.sum(-2) <= 10 ** (BAND_FLOOR_DB / 10) * m.bands[..., : len(OCTAVES_HZ)].sum((-1, -2))[..., None]
    by_region = _ratio_db(regions[..., 0, :], regions[..., 1, :])
    whole = (
        torch.where(m.silent, 0.0, _ratio_db(m.left, m.right)),
        torch.where(dead, 0.0, correlation.clamp(-1.0, 1.0)),
        torch.where(m.silent, 0.0, _ratio_db(m.mid, m.side)),
    )
    by_region = torch.where(empty | m.spectrum_silent[..., None], 0.0, by_region)
    return torch.cat([torch.stack(whole, -1), by_region], -1)


def _masking(m: _Measured) -> Tensor:
    """[B, 4, 5]: level of the others over the stem, share of its tiles that they mask, and each of them alone."""
    grids = (m.coarse_tiles, m.fine_tiles)
    bands = sum(g.shape[-1] for g in grids)
    mean = torch.stack([g.mean(-2).sum(-1) for g in grids]).sum(0) / bands
    threshold = (10 ** (ACTIVE_DB / 10) * mean)[..., None, None]
    parts = [_masking_sums(g, threshold) / g.shape[-2] for g in grids]  # every band counts the same
    sums = torch.stack(parts).sum(0)
    shares = sums[..., 1:] / sums[..., :1].clamp(min=torch.finfo(sums.dtype).tiny)
    nothing = shares.new_tensor([MASKING_LIMIT_DB, 1.0, 1.0, 1.0, 1.0])
    masked = torch.where((m.spectrum_silent | (sums[..., 0] == 0))[..., None], nothing, shares)
    return masked + 0 * mean.sum(-1)[:, None, None]  # NaN in any stem leaves nothing to compare


def _masking_sums(tiles: Tensor, threshold: Tensor) -> Tensor:
    """[B, 4, 6]: active tiles, sum of the others' levels over them, how many are masked, and by each other stem."""
    active = tiles >= threshold
    names = range(tiles.shape[1])
    rows = []
    for stem in names:
        own, counted = tiles[:, stem], active[:, stem]
        others = [tiles[:, o] for o in names if o != stem]
        together = torch.stack(others).sum(0)
        level_db = (_db(together) - _db(own)).clamp(-MASKING_LIMIT_DB, MASKING_LIMIT_DB)
        sums = [counted.float(), torch.where(counted, level_db, 0.0)]
        sums += [((other > own) & counted).float() for other in (together, *others)]
        rows.append(torch.stack([s.sum((-1, -2)) for s in sums], -1))
    return torch.stack(rows, 1)


def _nan_unless_finite(power: Tensor) -> Tensor:
    """Infinity would pass for a ratio at its limit."""
    return power + (power - power)


def _ratio_db(a: Tensor, b: Tensor) -> Tensor:
    return (_db(a) - _db(b)).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)


def _db(power: Tensor) -> Tensor:
    """Decibels, finite for 0: float32's smallest normal number, -379 dB, lies below every floor."""
    return 10 * torch.log10(power.clamp(min=torch.finfo(power.dtype).tiny))


if __name__ == "__main__":
    sys.stdout.write(markdown())
