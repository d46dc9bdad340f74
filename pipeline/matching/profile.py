"""What matching knows of a mix: for each stem the power in third octaves, as mid, side and their product, and loudness.

Power is averaged over all clips, as equalisers that match spectra do. The product of mid and side tells left from
right: with m = (l + r) / 2 and s = (l - r) / 2 the power of left is that of m and of s and twice their product.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_present
from mixstyle.pipeline.descriptors.bands_and_floors import LOWEST_HZ, OCTAVES_HZ
from mixstyle.pipeline.descriptors.k_weighting import k_weighting_sections
from mixstyle.pipeline.descriptors.loudness import gated_loudness, weighted_step_power
from mixstyle.pipeline.descriptors.mono import SEPARATED_DB, is_mono
from mixstyle.pipeline.descriptors.song_values import loudness_of_clips
from mixstyle.pipeline.descriptors.spectrum import bin_shares, hann, mean_square_per_bin

Floats = NDArray[np.float64]

PER_OCTAVE = 3
BANDS = PER_OCTAVE * len(OCTAVES_HZ)
WINDOW = 8192
"""Samples: bins of 5.4 Hz, as narrow as the lowest band."""
POINTS = 4
"""Frequencies in each band at which a filter is looked at."""
TINY = 1e-20


@dataclass(frozen=True)
class StemPower:
    """Mean squares of one stem in third octaves, each [BANDS]: of mid, of side, and of their product."""

    mid: Floats
    side: Floats
    product: Floats

    @property
    def total(self) -> Floats:
        """Of left and right together, halved: [BANDS]."""
        return self.mid + self.side

    @property
    def own_side(self) -> Floats:
        """The side without the part that goes with the middle [BANDS]."""
        return np.maximum(self.side - self.product**2 / np.maximum(self.mid, TINY), 0.0)

    @property
    def level_difference_db(self) -> float:
        """Left over right."""
        left, right = (float((self.total + sign * 2 * self.product).sum()) for sign in (1, -1))
        return float(10 * np.log10(max(left, TINY) / max(right, TINY)))

    def equalised(self, gain_db: Floats) -> "StemPower":
        """After a filter of so many dB in each band."""
        gain = 10 ** (gain_db / 10)
        return StemPower(self.mid * gain, self.side * gain, self.product * gain)

    def panned(self, left: float, right: float) -> "StemPower":
        """After gains on left and right."""
        a, b = (left + right) / 2, (left - right) / 2
        return StemPower(
            a * a * self.mid + 2 * a * b * self.product + b * b * self.side,
            b * b * self.mid + 2 * a * b * self.product + a * a * self.side,
            a * b * (self.mid + self.side) + (a * a + b * b) * self.product,
        )

    def widened(self, side_db: Floats) -> "StemPower":
        """After a filter of so many dB in each band on the side alone; its phase is left out of account."""
        gain = 10 ** (side_db / 20)
        return StemPower(self.mid, self.side * gain**2, self.product * gain)


@dataclass(frozen=True)
class MixProfile:
    """A mix. lufs: of each stem [4]; mix_lufs: of their sum; mono: whether it has no side to speak of."""

    stems: tuple[StemPower, ...]
    lufs: Floats
    mix_lufs: float
    mono: bool

    @property
    def relative_lu(self) -> Floats:
        """Each stem's loudness against the mix [4]."""
        return self.lufs - self.mix_lufs

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which stems are there, by the rule for descriptors [4]."""
        return is_present(self.lufs, self.mix_lufs)


def measure_profile(clips: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> MixProfile:
    """The profile of a song's clips, [4, 2, T] each. Raises ValueError where they are too short for a loudness."""
    powers = np.mean([_powers(clip.double(), sample_rate) for clip in clips], axis=0)
    lufs, mix_lufs = song_loudness(clips, sample_rate)
    mix = torch.cat([clip.float() for clip in clips], -1).sum(0)
    mid, side = (float((mix[0] + sign * mix[1]).double().square().sum()) for sign in (1, -1))
    mono = is_mono(mid, side, SEPARATED_DB)
    return MixProfile(tuple(StemPower(*stem) for stem in powers), lufs, mix_lufs, mono)


def stem_power(clips: Sequence[NDArray[np.floating]], sample_rate: int = SAMPLE_RATE) -> StemPower:
    """The power of one stem, of which clips [2, T] are known."""
    found = [_powers(torch.from_numpy(np.asarray(clip, np.float64))[None], sample_rate)[0] for clip in clips]
    return StemPower(*np.mean(found, axis=0))


def song_loudness(clips: Sequence[Tensor], sample_rate: int = SAMPLE_RATE) -> tuple[Floats, float]:
    """Loudness in LUFS of a song by its clips [4, 2, T], as `song_descriptors` has it: of each stem [4], and of their
    sum."""
    powers = [weighted_step_power(clip.float(), sample_rate) for clip in clips]
    stems = [gated_loudness(power).double().numpy() for power, _ in powers]
    return loudness_of_clips(stems), float(loudness_of_clips([float(gated_loudness(of_sum)) for _, of_sum in powers]))


def mean_profile(profiles: Sequence[MixProfile]) -> MixProfile:
    """What several references have in common: of each stem the mean over those that have it, at equal loudness.

    A stem is there where more than half of them have it. Loudnesses are means in LU. It is mono where all are.
    """
    if len(profiles) == 1:
        return profiles[0]
    stems, relative = [], []
    for place in range(len(STEMS)):
        having = [profile for profile in profiles if profile.present[place]]
        usual = 2 * len(having) > len(profiles)
        chosen = having if usual else list(profiles)
        powers = [
            np.stack([stem.mid, stem.side, stem.product]) / max(float(stem.total.sum()), TINY)
            for stem in (profile.stems[place] for profile in chosen)
        ]
        stems.append(StemPower(*np.mean(powers, axis=0)))
        levels = [float(profile.relative_lu[place]) for profile in chosen]
        relative.append(float(np.mean(levels)) if usual else min(levels))
    mix_lufs = float(np.mean([profile.mix_lufs for profile in profiles]))
    return MixProfile(tuple(stems), np.array(relative) + mix_lufs, mix_lufs, all(p.mono for p in profiles))


def band_points_hz() -> Floats:
    """Frequencies [BANDS, POINTS] that stand for each third octave, evenly over its width in octaves."""
    place = np.arange(BANDS)[:, None] + (np.arange(POINTS) + 0.5) / POINTS
    return np.minimum(LOWEST_HZ * 2 ** (place / PER_OCTAVE), 20_000.0)


def octave_sums(power: Floats) -> Floats:
    """Power in octaves [..., octaves] of power in third octaves [..., BANDS]."""
    return power.reshape(*power.shape[:-1], -1, PER_OCTAVE).sum(-1)


def k_weights(sample_rate: int = SAMPLE_RATE) -> Floats:
    """What each band counts for in loudness [BANDS] (BS.1770-4's K-weighting, as a factor of power)."""
    z = np.exp(-2j * np.pi * band_points_hz() / sample_rate)
    gain = np.ones_like(z)
    for b, a in k_weighting_sections(sample_rate):
        gain *= (b[0] + b[1] * z + b[2] * z**2) / (a[0] + a[1] * z + a[2] * z**2)
    return (np.abs(gain) ** 2).mean(1)


def _powers(clip: Tensor, sample_rate: int) -> Floats:
    """[4, 3, BANDS]: mean squares of mid and side of each stem, and of their product."""
    counted = bin_shares(band_edges_hz(), WINDOW, sample_rate)
    shares = torch.from_numpy(mean_square_per_bin(hann(WINDOW))[:, None] * counted)
    window = torch.from_numpy(hann(WINDOW))
    padded = torch.nn.functional.pad(clip, (0, max(0, WINDOW - clip.shape[-1])))
    found = []
    for left, right in padded.unbind(0):
        frames = torch.stack([(left + right) / 2, (left - right) / 2]).unfold(-1, WINDOW, WINDOW // 2)
        mid, side = torch.fft.rfft(frames * window).unbind(0)
        parts = (_power(mid), _power(side), mid.real * side.real + mid.imag * side.imag)
        found.append(torch.stack([part.mean(0) for part in parts]) @ shares)
    return torch.stack(found).numpy()


def _power(spectrum: Tensor) -> Tensor:
    """The squares of magnitudes. `abs` takes a root that is squared again: most of a profile's time."""
    return spectrum.real.square() + spectrum.imag.square()


def band_edges_hz() -> list[tuple[float, float]]:
    """Where each third octave begins and ends; the last one has no end."""
    edges = [LOWEST_HZ * 2 ** (k / PER_OCTAVE) for k in range(BANDS + 1)]
    return list(zip(edges[:-1], [*edges[1:-1], float("inf")], strict=True))
