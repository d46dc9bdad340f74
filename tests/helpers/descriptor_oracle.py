"""Descriptors once more, in float64 with numpy, scipy and pyloudnorm, one stem and one value at a time.

Written from docs/descriptors.md, not from the code: the long frames are taken from the signal itself, without
decimation, and loudness is pyloudnorm's.
"""

from itertools import pairwise

import numpy as np
import pyloudnorm
import scipy.signal

CROSSOVER_HZ = 1000 / 2**1.5
LOWEST_HZ = 1000 / 2**5.5
Frames = tuple[np.ndarray, np.ndarray]


def db(power: np.ndarray | float) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, 1e-30))


def frames(signal: np.ndarray, window: int, hop: int) -> np.ndarray:
    """Mean squares [frames, bins] of Hann-windowed frames centred on every multiple of hop."""
    hann = np.asarray(scipy.signal.get_window("hann", window))
    padded = np.pad(signal, window // 2, mode="reflect")
    starts = range(0, len(signal) + 1, hop)
    power = np.array([np.abs(np.fft.rfft(padded[s : s + window] * hann)) ** 2 for s in starts])
    power[:, 1:-1] *= 2
    return power / (window * np.sum(hann**2))


def both_resolutions(signal: np.ndarray) -> Frames:
    return frames(signal, 4096, 2048), frames(signal, 1024, 512)


def within(power: np.ndarray, low_hz: float, high_hz: float, rate: int) -> np.ndarray:
    """Sum [frames] over the bins between two frequencies, straddling bins by the share of their width."""
    bins = power.shape[1]
    width = rate / (2 * (bins - 1))
    total = np.zeros(len(power))
    for k in range(bins):
        lower, upper = max(k - 0.5, 0) * width, min(k + 0.5, bins - 1) * width
        overlap = min(upper, high_hz) - max(lower, low_hz)
        if overlap > 0:
            total += power[:, k] * overlap / (upper - lower)
    return total


def band_energy(resolutions: Frames, low_hz: float, high_hz: float, rate: int) -> float:
    coarse, fine = resolutions
    energy = 0.0
    if low_hz < CROSSOVER_HZ:
        energy += within(coarse, low_hz, min(high_hz, CROSSOVER_HZ), rate).mean()
    if high_hz > CROSSOVER_HZ:
        energy += within(fine, max(low_hz, CROSSOVER_HZ), high_hz, rate).mean()
    return energy


def erb_tiles(resolutions: Frames, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """Tile energies [frames, 8] and [frames, 31]."""

    def edges(low_hz: float, high_hz: float, bands: int) -> list[float]:
        low, high = (21.4 * np.log10(1 + 0.00437 * f) for f in (low_hz, high_hz))
        return [(10 ** (e / 21.4) - 1) / 0.00437 for e in np.linspace(low, high, bands + 1)]

    tiles = []
    for power, span in zip(resolutions, ((LOWEST_HZ, CROSSOVER_HZ, 8), (CROSSOVER_HZ, 16_000.0, 31)), strict=True):
        e = edges(*span)
        tiles.append(np.stack([within(power, a, b, rate) for a, b in pairwise(e)], 1))
    return tiles[0], tiles[1]


def flatness_db(fine: np.ndarray, rate: int) -> float:
    width = rate / 1024
    used = fine[:, round(250 / width) : round(8000 / width) + 1]
    weights, levels = [], []
    for frame in used:
        mean = frame.mean()
        if mean > 0:
            weights.append(mean)
            levels.append(np.mean(db(np.maximum(frame / mean, 1e-6))))
    return float(np.average(levels, weights=weights))


def tilt(octaves_db: list[float]) -> float:
    centers = 1000 * 2.0 ** np.arange(-4, 4)
    widths = centers * (2**0.5 - 2**-0.5)
    slope, _ = np.polyfit(np.log2(centers), np.array(octaves_db[1:9]) - db(widths), 1)
    return float(slope)


def masking(tiles: list[tuple[np.ndarray, np.ndarray]], stem: int) -> list[float]:
    """Level of the others, share they mask together, and share each of them masks alone."""
    mean = np.concatenate([grid.mean(0) for grid in tiles[stem]]).mean()
    others = [o for o in range(4) if o != stem]
    weight = level = together = 0.0
    alone = np.zeros(3)
    for grid in (0, 1):
        own = tiles[stem][grid]
        for t, b in zip(*np.nonzero(own >= 1e-4 * mean), strict=True):
            rivals = np.array([tiles[o][grid][t, b] for o in others])
            w = 1 / len(own)
            weight += w
            level += w * float(np.clip(db(rivals.sum()) - db(own[t, b]), -30, 30))
            together += w * (rivals.sum() > own[t, b])
            alone += w * (rivals > own[t, b])
    return [level / weight, together / weight, *(alone / weight)]


def oracle(stems: np.ndarray, rate: int = 44_100) -> np.ndarray:
    """Descriptors of one clip [4, 2, T] that has neither silence nor floors."""
    stems = stems.astype(np.float64)
    meter = pyloudnorm.Meter(rate)
    mix_lufs = meter.integrated_loudness(stems.sum(0).T)
    spectra = [[both_resolutions(s) for s in (left + right, left - right)] for left, right in stems]
    summed = [(m[0] + s[0], m[1] + s[1]) for m, s in spectra]
    tiles = [erb_tiles(both, rate) for both in summed]
    octaves = [1000 * 2.0**k for k in range(-5, 5)]
    spans = [(LOWEST_HZ, 250.0), (250.0, 4000.0), (4000.0, rate / 2)]
    spans += [(f / 2**0.5, min(f * 2**0.5, rate / 2)) for f in octaves]
    values: list[float] = []
    for index, (left, right) in enumerate(stems):
        lufs = meter.integrated_loudness(stems[index].T)
        power = (np.mean(left**2) + np.mean(right**2)) / 2
        peak = np.abs(stems[index]).max()
        values += [float(db(np.mean(left**2))), float(db(np.mean(right**2))), float(db(peak**2) - db(power))]
        values += [lufs, lufs - mix_lufs, float(db(peak**2)) - lufs]
        total = band_energy(summed[index], LOWEST_HZ, min(16_000 * 2**0.5, rate / 2), rate)
        levels = [float(db(band_energy(summed[index], low, high, rate)) - db(total)) for low, high in spans]
        values += [*levels, tilt(levels[3:]), flatness_db(summed[index][1], rate)]
        values += [float(db(np.mean(left**2)) - db(np.mean(right**2)))]
        values += [np.mean(left * right) / np.sqrt(np.mean(left**2) * np.mean(right**2))]
        values += [float(db(np.mean((left + right) ** 2)) - db(np.mean((left - right) ** 2)))]
        for low, high in spans[:3]:
            mid, side = (band_energy(r, low, high, rate) for r in spectra[index])
            values.append(float(db(mid) - db(side)))
        values += masking(tiles, index)
    return np.array(values)
