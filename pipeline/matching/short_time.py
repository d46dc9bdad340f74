"""How far apart two stems are by how their levels move in time, whatever they play: what dynamics and reverb change.

In each octave, of middle and side, levels of 46 ms are looked at in two ways: how often each level occurs, and how fast
levels rise and fall. The distance of two such distributions is the mean difference of their quantiles in dB (the
Wasserstein distance of order 1). Mean levels are set equal before, as an equaliser and the width set them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.spectrum import band_edges, bin_shares, hann, mean_square_per_bin

Floats = NDArray[np.float64]

WINDOW = 2048
HOP = WINDOW // 2
LAG = 2
"""Frames between which a level rises or falls: windows that do not overlap."""
QUANTILES = np.linspace(0.02, 0.98, 25)
LOWEST_DB = -40.0
"""Levels further below their octave's mean count as this: noise and what is masked."""
OCTAVE_FLOOR_DB = -50.0
SIDE_FLOOR_DB = -30.0
"""An octave so far below the stem, or a side so far below its middle, does not count; from FADE_DB above, in full."""
FADE_DB = 10.0
SILENT_CLIP_DB = -40.0
"""A clip so far below the loudest one has nothing of the stem."""
TINY = 1e-14


def short_time_power(clips: Sequence[NDArray[np.floating]], sample_rate: int = SAMPLE_RATE) -> Floats:
    """Mean squares [2, frames, octaves] of middle and side of one stem's clips [2, T], in frames of 46 ms, half
    overlapped; without clips in which it rests."""
    energies = np.array([float(np.mean(np.square(clip, dtype=np.float64))) for clip in clips])
    plays = energies >= 10 ** (SILENT_CLIP_DB / 10) * energies.max(initial=0.0)
    counted = bin_shares(band_edges()[: len(OCTAVES_HZ)], WINDOW, sample_rate)
    shares = torch.from_numpy(mean_square_per_bin(hann(WINDOW))[:, None] * counted)
    window = torch.from_numpy(hann(WINDOW))
    found = []
    for clip in (clip for clip, heard in zip(clips, plays, strict=True) if heard):
        left, right = torch.from_numpy(np.asarray(clip, np.float64))
        both = torch.stack([(left + right) / 2, (left - right) / 2])
        both = torch.nn.functional.pad(both, (0, max(0, WINDOW - both.shape[-1])))
        spectrum = torch.fft.rfft(both.unfold(-1, WINDOW, HOP) * window)
        found.append((spectrum.real.square() + spectrum.imag.square()) @ shares)
    return torch.cat(found, 1).numpy()


def short_time_distance(mine: Floats, wanted: Floats, *, stereo: bool = True) -> float:
    """Of two stems, by `short_time_power`, in dB: the mean over octaves, middle and side of both distances together.
    stereo: whether the side counts, too. 0 where there is nothing to compare."""
    if min(one.sum() for one in (mine, wanted)) < TINY:
        return 0.0
    means = [np.maximum(one.mean(1), TINY) for one in (mine, wanted)]
    weight = _weight(*means)
    if not stereo:
        weight[1] = 0
    levels = [
        np.maximum(10 * np.log10(np.maximum(one, TINY) / mean[:, None]), LOWEST_DB)
        for one, mean in zip((mine, wanted), means, strict=True)
    ]
    apart = _apart(*levels) + _apart(*(one[:, LAG:] - one[:, :-LAG] for one in levels))
    return float((apart * weight).sum() / max(float(weight.sum()), TINY))


def _apart(one: Floats, other: Floats) -> Floats:
    """The mean difference of quantiles over frames [2, octaves]; 0 where there are no frames."""
    if not one.shape[1] or not other.shape[1]:
        return np.zeros((one.shape[0], one.shape[2]))
    return np.abs(np.quantile(one, QUANTILES, axis=1) - np.quantile(other, QUANTILES, axis=1)).mean(0)


def _weight(mine: Floats, wanted: Floats) -> Floats:
    """What the octaves of middle and side count [2, octaves], by their mean squares in both."""

    def faded(level_db: Floats, floor_db: float) -> Floats:
        return np.clip((level_db - floor_db) / FADE_DB, 0, 1)

    octaves = [10 * np.log10(one.sum(0) / one.sum()) for one in (mine, wanted)]
    sides = [10 * np.log10(one[1] / one[0]) for one in (mine, wanted)]
    of_octave = faded(np.maximum(*octaves), OCTAVE_FLOOR_DB)
    return np.stack([of_octave, of_octave * faded(np.minimum(*sides), SIDE_FLOOR_DB)])
