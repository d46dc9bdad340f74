"""The time-frequency analysis that the spectral, stereo and masking descriptors share.

Two resolutions, joined at CROSSOVER_HZ: Hann windows of 1024 samples, every 512, resolve 43 Hz, which suits ears and
music above; below, bands are narrower than that (a kick's fundamental and a bass line's differ by 30 Hz), and the
windows are four times as long. The long frames are taken from the signal decimated by 16, which costs a tenth of
transforming them in full and gives the same bins: the decimator is flat to the crossover, and what it lets alias is
below -85 dB. The short frames are those of a published encoder's spectrogram (n_fft 1024, hop 256), every other one.

Channels come as their sum and difference, m = l + r and s = l - r, whose energies add up to twice the channels'. So
a narrow stem's side is measured itself, not as a difference of large numbers.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from mixstyle.pipeline.core.precision import exact_float32
from mixstyle.pipeline.descriptors.bands_and_floors import (
    CROSSOVER_HZ,
    FLATNESS_FLOOR_DB,
    FLATNESS_HZ,
    LOWEST_HZ,
    MASKING_TOP_HZ,
    OCTAVES_HZ,
    REGIONS_HZ,
)

FINE_WINDOW, FINE_HOP = 1024, 512
DECIMATION = 16
COARSE_WINDOW, COARSE_HOP = 4096 // DECIMATION, 2048 // DECIMATION
"""In decimated samples."""
_TAPS = 128  # of the decimator; the first is 0, so that the filter's middle is on a sample
_PHASES = _TAPS // DECIMATION
_ALIAS_DB = 90.0
_FRAMES_AT_ONCE = {"cpu": 216}  # on CPUs their spectra then stay in the cache
MARGIN = COARSE_WINDOW * DECIMATION // 2 + _TAPS // 2
"""Samples of reflection that a clip needs at either end."""
ERB_BANDS = (8, 31)
"""Bands of masking below and above the crossover."""


@dataclass(frozen=True)
class Spectrum:
    """What one stem's frames come to; N clips."""

    bands: Tensor
    """[N, 2, bands]: mean squares of m and of s in the octaves, then in the regions low, mid and high."""
    flatness_db: Tensor
    """[N]; FLATNESS_FLOOR_DB where there is nothing to measure."""
    coarse_tiles: Tensor
    """[N, frames, ERB_BANDS[0]]: mean squares of m and s together."""
    fine_tiles: Tensor
    """[N, frames, ERB_BANDS[1]]"""


def erb_rate(frequency_hz: float) -> float:
    """Place on the ERB-rate scale, in ERBs (Glasberg & Moore 1990, eq. 4)."""
    return 21.4 * float(np.log10(1 + 0.00437 * frequency_hz))


def erb_frequency(rate_erb: float) -> float:
    """Inverse of `erb_rate`, in Hz."""
    return (10 ** (rate_erb / 21.4) - 1) / 0.00437


def erb_edges(low_hz: float, high_hz: float, bands: int) -> list[float]:
    """Edges [bands + 1] in Hz of bands that are equally wide in ERBs.

    >>> [round(f) for f in erb_edges(LOWEST_HZ, CROSSOVER_HZ, ERB_BANDS[0])]
    [22, 50, 81, 115, 153, 196, 243, 295, 354]
    """
    edges = [erb_frequency(float(e)) for e in np.linspace(erb_rate(low_hz), erb_rate(high_hz), bands + 1)]
    return [low_hz, *edges[1:-1], high_hz]


def band_edges() -> list[tuple[float, float]]:
    """(low, high) in Hz of the octaves and then of the regions; infinity stands for half the sampling rate."""
    half = 2**0.5
    octaves = [(center / half, center * half) for center in OCTAVES_HZ]
    return octaves + [(low, high) for _, low, high in REGIONS_HZ]


def bin_shares(edges: list[tuple[float, float]], window: int, sample_rate: float) -> np.ndarray:
    """Share [window // 2 + 1, bands] of each bin of a transform that is within each band (low, high) in Hz.

    A bin stands for the frequencies nearer to it than to its neighbours, the first and last for half as many.
    """
    width = sample_rate / window
    bins = np.arange(window // 2 + 1)
    lower = np.maximum(bins - 0.5, 0)[:, None] * width
    upper = np.minimum(bins + 0.5, window / 2)[:, None] * width
    low, high = (np.array(side)[None] for side in zip(*edges, strict=True))
    return np.clip(np.minimum(upper, high) - np.maximum(lower, low), 0, None) / (upper - lower)


def hann(samples: int) -> np.ndarray:
    """Periodic Hann window, torch.stft's usual one."""
    import scipy.signal  # takes seconds, so where it is needed

    return np.asarray(scipy.signal.get_window("hann", samples))


def mean_square_per_bin(window: np.ndarray) -> np.ndarray:
    """What turns |X_k|^2 of a real frame under `window` into the mean square of bin k (Parseval), [bins].

    All bins but the first and, for even lengths, the last stand for their mirror images too.
    """
    scale = np.full(len(window) // 2 + 1, 2.0)
    scale[0] = scale[-1] = 1.0
    return scale / (len(window) * np.square(window).sum())


@dataclass(frozen=True)
class _Plan:
    """Constants on one device, float32."""

    fine_window: Tensor
    coarse_window: Tensor
    taps: Tensor
    """[PHASES, DECIMATION]: the decimator in runs of DECIMATION taps."""
    fine_bands: Tensor
    """[bins, bands]: |X|^2 to mean squares of the part of each band above the crossover."""
    coarse_bands: Tensor
    fine_erbs: Tensor
    coarse_erbs: Tensor
    flat_bins: slice
    """Fine bins that flatness looks at."""


def check_rate(sample_rate: int) -> None:
    """Raises ValueError for a rate at which nothing stands for the highest bands."""
    if min(MASKING_TOP_HZ, OCTAVES_HZ[-1] / 2**0.5) >= sample_rate / 2:
        raise ValueError(f"sample_rate={sample_rate} is too low: descriptors reach up to {MASKING_TOP_HZ:g} Hz")


@lru_cache(maxsize=16)
def _plan(sample_rate: int, device: str) -> _Plan:
    check_rate(sample_rate)
    fine, coarse = hann(FINE_WINDOW), hann(COARSE_WINDOW)
    per_fine = mean_square_per_bin(fine)[:, None]
    per_coarse = mean_square_per_bin(coarse)[:, None]
    coarse_rate = sample_rate / DECIMATION

    above = [(max(low, CROSSOVER_HZ), max(high, CROSSOVER_HZ)) for low, high in band_edges()]
    below = [(min(low, CROSSOVER_HZ), min(high, CROSSOVER_HZ)) for low, high in band_edges()]
    erbs_below = erb_edges(LOWEST_HZ, CROSSOVER_HZ, ERB_BANDS[0])
    erbs_above = erb_edges(CROSSOVER_HZ, MASKING_TOP_HZ, ERB_BANDS[1])
    coarse_bands = per_coarse * bin_shares(below, COARSE_WINDOW, coarse_rate)
    used = int(np.flatnonzero(coarse_bands.sum(1))[-1]) + 1
    first, last = (round(f * FINE_WINDOW / sample_rate) for f in FLATNESS_HZ)

    def tensor(values: np.ndarray) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)

    with torch.inference_mode(False):  # so that the cached tensors serve in and outside of inference mode
        return _Plan(
            fine_window=tensor(fine),
            coarse_window=tensor(coarse),
            taps=tensor(decimator().reshape(_PHASES, DECIMATION)),
            fine_bands=tensor(per_fine * bin_shares(above, FINE_WINDOW, sample_rate)),
            coarse_bands=tensor(coarse_bands[:used]),
            fine_erbs=tensor(per_fine * bin_shares(list(pairwise(erbs_above)), FINE_WINDOW, sample_rate)),
            coarse_erbs=tensor(
                (per_coarse * bin_shares(list(pairwise(erbs_below)), COARSE_WINDOW, coarse_rate))[:used]
            ),
            flat_bins=slice(first, last + 1),
        )


def decimator() -> np.ndarray:
    """Low-pass taps [TAPS] whose transition band is around half the decimated rate.

    At 44.1 kHz it is flat to 385 Hz, beyond the highest coarse bin that is read and its main lobe, and _ALIAS_DB down
    from 2371 Hz on, which is what decimation folds onto them.
    """
    import scipy.signal

    time = np.arange(_TAPS - 1) - (_TAPS / 2 - 1)
    taps = np.sinc(time / DECIMATION) * np.kaiser(_TAPS - 1, scipy.signal.kaiser_beta(_ALIAS_DB))
    return np.concatenate([[0.0], taps / taps.sum()])


def sum_and_difference(stem: Tensor) -> Tensor:
    """l + r and l - r of a stem [N, 2, T], reflected at both ends as `analyse` wants them: [N, 2, MARGIN + T + more].

    The right end is reflected by as much more as makes the length a multiple of DECIMATION.
    """
    left, right = stem.unbind(-2)
    samples = stem.shape[-1]
    after = MARGIN + -(samples + 2 * MARGIN) % DECIMATION
    rows = []
    for row in (left + right, left - right):
        rows += [row[..., 1 : MARGIN + 1].flip(-1), row, row[..., samples - 1 - after : samples - 1].flip(-1)]
    return torch.cat(rows, -1).unflatten(-1, (2, -1))


def analyse(mid_side: Tensor, samples: int, sample_rate: int) -> Spectrum:
    """Analyses N clips of one stem, each of that many samples, given by `sum_and_difference`."""
    plan = _plan(sample_rate, str(mid_side.device))
    with exact_float32(mid_side.device):
        coarse = _coarse_power(mid_side, samples, plan)
        fine_sums, flat, tiles = _fine(mid_side, samples, plan)
        return Spectrum(
            bands=coarse.mean(2) @ plan.coarse_bands + fine_sums / tiles.shape[1] @ plan.fine_bands,
            flatness_db=_flatness_db(flat),
            coarse_tiles=coarse.sum(1) @ plan.coarse_erbs,
            fine_tiles=tiles,
        )


def _fine(mid_side: Tensor, samples: int, plan: _Plan) -> tuple[Tensor, Tensor, Tensor]:
    """From the frames centred on every multiple of FINE_HOP: sums of |X|^2 over them [N, 2, bins]; those of m and s
    together in the bins that flatness looks at [N, frames, bins]; and the tiles of masking [N, frames, bands]."""
    start = MARGIN - FINE_WINDOW // 2
    stop = MARGIN + samples // FINE_HOP * FINE_HOP + FINE_WINDOW // 2
    frames = mid_side[..., start:stop].unfold(-1, FINE_WINDOW, FINE_HOP)
    at_once = _FRAMES_AT_ONCE.get(mid_side.device.type, frames.shape[-2])
    sums, flat, tiles = [], [], []
    for part in frames.split(at_once, -2):
        power = _power(torch.fft.rfft(part * plan.fine_window))
        both = power.sum(1)
        sums.append(power.sum(2))
        flat.append(both[..., plan.flat_bins])
        tiles.append(both @ plan.fine_erbs)
    return torch.stack(sums).sum(0), torch.cat(flat, 1), torch.cat(tiles, 1)


def _coarse_power(mid_side: Tensor, samples: int, plan: _Plan) -> Tensor:
    """|X|^2 [N, 2, frames, lowest bins] of the long frames, centred on every multiple of COARSE_HOP * DECIMATION."""
    count = samples // (COARSE_HOP * DECIMATION) * COARSE_HOP + COARSE_WINDOW  # decimated samples
    runs = plan.taps @ mid_side.unflatten(-1, (-1, DECIMATION)).transpose(-1, -2)  # [N, 2, PHASES, T / DECIMATION]
    # Output n is the sum over p of sample run n + p under the p-th run of taps.
    low = torch.stack([runs[..., p, p : p + count] for p in range(_PHASES)]).sum(0)
    frames = low.unfold(-1, COARSE_WINDOW, COARSE_HOP)
    return _power(torch.fft.rfft(frames * plan.coarse_window)[..., : len(plan.coarse_bands)])


def _power(spectrum: Tensor) -> Tensor:
    parts = torch.view_as_real(spectrum)  # squared in place: nobody else has it, and its memory can be reused
    parts.mul_(parts)
    return parts[..., 0] + parts[..., 1]


def _flatness_db(power: Tensor) -> Tensor:
    """Flatness [N] of powers [N, frames, bins]: geometric over arithmetic mean, averaged by the frames' powers."""
    mean = power.mean(-1)
    relative = power / mean[..., None].clamp(min=torch.finfo(power.dtype).tiny)
    level_db = (10 * torch.log10(relative.clamp(min=10 ** (FLATNESS_FLOOR_DB / 10)))).mean(-1)
    total = mean.sum(-1)
    weighted = (level_db * mean).sum(-1) / total.clamp(min=torch.finfo(power.dtype).tiny)
    return torch.where(total > 0, weighted, FLATNESS_FLOOR_DB) + 0 * total  # NaN stays NaN
