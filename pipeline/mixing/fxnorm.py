"""FX normalisation: brings every song's stems to the same spectrum, stereo image and loudness before they are mixed.

After Martínez-Ramírez, Liao, Fabbro, Uhlich, Nagashima, Mitsufuji: "Automatic music mixing with deep learning and
out-of-domain data", ISMIR 2022, whose effects are undone in the same order (equaliser, panning, loudness; their
compression and reverb are left as they are). The targets are medians over the training songs' descriptors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, columns
from mixstyle.pipeline.mixing.effects import rms

MOST_DB = 15.0
"""No octave, side signal or channel is moved by more: what is further off is missing, and raising it raises noise."""
MOST_LOUDNESS_LU = 30.0
ROUNDS = 4
"""A gain that is smooth over frequency reaches into the octaves beside it, so that it is corrected some times."""
SILENT_RMS = 1e-4
"""-80 dBFS: a stem below it is not there, and stays as it is."""


@dataclass(frozen=True)
class StemTargets:
    """What stems are brought to. octaves_db: [4, octaves], against all of the stem; the others [4]."""

    octaves_db: np.ndarray
    mid_side_db: np.ndarray
    level_difference_db: np.ndarray
    loudness_lufs: np.ndarray

    @classmethod
    def from_medians(cls, names: Sequence[str], medians: np.ndarray) -> "StemTargets":
        """From the medians [D] of descriptors by their names. Raises KeyError for a descriptor that is not there."""
        median = dict(zip(names, medians.astype(np.float64), strict=True))
        octaves = [
            [median[DESCRIPTORS[column].name] for hz in OCTAVES_HZ for column in columns(stem=stem, octave_hz=hz)]
            for stem in STEMS
        ]
        others = [
            np.array([median[f"{stem}_{name}"] for stem in STEMS])
            for name in ("mid_side_db", "level_difference_db", "loudness_lufs")
        ]
        return cls(np.array(octaves), *others)


def fx_normalise(stems: np.ndarray, targets: StemTargets, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Stems float32 [4, 2, T] brought to the targets; a silent stem stays as it is.

    Octaves are moved without a shift of phase, by a gain that is smooth over log frequency. Raises ValueError for
    another shape.
    """
    if stems.ndim != 3 or stems.shape[:2] != (len(STEMS), 2):
        raise ValueError(f"stems to normalise should be [4, 2, T], not {list(stems.shape)}")
    out = np.array(stems, np.float32)
    for i, stem in enumerate(stems):
        if rms(stem) < SILENT_RMS:
            continue
        audio = _equalised(stem, targets.octaves_db[i], sample_rate)
        audio = _balanced(audio, targets.level_difference_db[i])
        audio = _widened(audio, targets.mid_side_db[i])
        out[i] = _levelled(audio, targets.loudness_lufs[i], sample_rate)
    return out


def _equalised(audio: np.ndarray, target_db: np.ndarray, rate: int) -> np.ndarray:
    samples = audio.shape[-1]
    size = 1 << math.ceil(math.log2(samples + rate // 10))  # what the gain smears wraps into silence
    spectrum = np.fft.rfft(audio, size)
    power = np.square(np.abs(spectrum)).sum(0)
    hz = np.fft.rfftfreq(size, 1 / rate)
    centers = np.array(OCTAVES_HZ)
    edges = [np.searchsorted(hz, (c / math.sqrt(2), c * math.sqrt(2))) for c in centers]
    place = np.interp(np.log2(np.maximum(hz, 1.0)), np.log2(centers), np.arange(len(centers)))
    gain_db, curve_db = np.zeros(len(centers)), np.zeros(len(hz))
    for _ in range(ROUNDS):
        shaped = power * 10 ** (curve_db / 10)
        octaves = np.array([shaped[low:high].sum() for low, high in edges])
        found_db = 10 * np.log10(octaves / octaves.sum() + 1e-12)
        gain_db = np.clip(gain_db + target_db - found_db, -MOST_DB, MOST_DB)
        curve_db = np.interp(place, np.arange(len(centers)), gain_db)
    return np.fft.irfft(spectrum * 10 ** (curve_db / 20), size)[:, :samples].astype(np.float32)


def _balanced(audio: np.ndarray, target_db: float) -> np.ndarray:
    """Left and right moved in opposite directions, until left is target_db over right."""
    left, right = (max(rms(channel), SILENT_RMS / 100) for channel in audio)
    half_db = float(np.clip(target_db - 20 * math.log10(left / right), -MOST_DB, MOST_DB)) / 2
    return audio * np.array([[10 ** (half_db / 20)], [10 ** (-half_db / 20)]], np.float32)


def _widened(audio: np.ndarray, target_db: float) -> np.ndarray:
    mid, side = (audio[0] + audio[1]) / 2, (audio[0] - audio[1]) / 2
    if min(rms(mid), rms(side)) < SILENT_RMS / 100:
        return audio  # a mono stem has no side to raise
    found_db = 20 * math.log10(rms(mid) / rms(side))
    half_db = float(np.clip(target_db - found_db, -MOST_DB, MOST_DB)) / 2
    mid, side = mid * np.float32(10 ** (half_db / 20)), side * np.float32(10 ** (-half_db / 20))
    return np.stack([mid + side, mid - side])


def _levelled(audio: np.ndarray, target_lufs: float, rate: int) -> np.ndarray:
    if audio.shape[-1] < 0.4 * rate:
        return audio
    found = integrated_loudness(torch.from_numpy(np.ascontiguousarray(audio)), rate).item()
    if found <= LOUDNESS_FLOOR_LUFS:
        return audio
    gain_db = float(np.clip(target_lufs - found, -MOST_LOUDNESS_LU, MOST_LOUDNESS_LU))
    return audio * np.float32(10 ** (gain_db / 20))
