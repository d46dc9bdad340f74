"""Clips for the tests of the descriptors, and their values by name."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe

RATE = 44_100
INDEX = {d.name: i for i, d in enumerate(DESCRIPTORS)}


def phrases(seconds: float, channels: int, seed: int, rate: int = RATE) -> np.ndarray:
    """Noise in phrases of very different levels, some below the gates: [channels, T] float32."""
    rng = np.random.default_rng(seed)
    samples = round(seconds * rate)
    level_db = np.repeat(rng.uniform(-95, -5, int(seconds / 0.37) + 2), int(0.37 * rate))[:samples]
    gains = 10 ** (rng.uniform(-20, 0, (channels, 1)) / 20)
    return (rng.standard_normal((channels, samples)) * gains * 10 ** (level_db / 20)).astype(np.float32)


def coloured(rng: np.random.Generator, samples: int, slope_db: float) -> np.ndarray:
    """Noise [samples] of unit mean square whose density falls by slope_db each octave above 20 Hz."""
    spectrum = np.fft.rfft(rng.standard_normal(samples))
    hz = np.fft.rfftfreq(samples, 1 / RATE)
    noise = np.fft.irfft(spectrum * np.maximum(hz / 20, 1) ** (slope_db / 6.0206), samples)
    return noise / noise.std()


def music(samples: int = RATE + 1234, seed: int = 0) -> Tensor:
    """A clip [1, 4, 2, samples] with what matters here: colours, panning, width, pulses, and levels in phrases."""
    rng = np.random.default_rng(seed)
    stems = np.zeros((4, 2, samples))
    colours, widths, pans = (-4.0, -8.0, 0.5, -3.0), (0.1, 0.02, 0.4, 0.9), (1.0, 0.95, 0.7, 1.3)
    for i in range(4):
        mid, side = coloured(rng, samples, colours[i]), coloured(rng, samples, colours[i] + 2)
        envelope = 0.02 + np.abs(np.sin(np.arange(samples) * (2 + 3 * i) / RATE)) ** (1 + 4 * (i == 2))
        stems[i] = 0.05 * envelope * np.stack([mid + widths[i] * side, pans[i] * (mid - widths[i] * side)])
    return torch.from_numpy(stems[None]).float()


def named(values: Tensor) -> dict[str, float]:
    return dict(zip(INDEX, values.tolist(), strict=True))


def one(vocals: np.ndarray, bass: np.ndarray | None = None) -> dict[str, float]:
    """Descriptors of a clip whose first stem is [2, T] and whose others, but for the bass, are silent."""
    stems = torch.zeros(1, 4, 2, vocals.shape[-1])
    stems[0, 0] = torch.from_numpy(np.asarray(vocals, dtype=np.float32))
    if bass is not None:
        stems[0, 1] = torch.from_numpy(np.asarray(bass, dtype=np.float32))
    return named(describe(stems)[0])


def sine(hz: float, seconds: float = 1.0, amplitude: float = 0.5) -> np.ndarray:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE)) / RATE)


def both(channel: np.ndarray) -> np.ndarray:
    return np.stack([channel, channel])


SAMPLES = RATE
"""Of the clips of `HARD`."""


def _impulse(amplitude: float, at: int) -> Tensor:
    stems = torch.zeros(1, 4, 2, SAMPLES)
    stems[0, 0, 0, at] = amplitude
    return stems


def _square(period: int) -> Tensor:
    wave = torch.where(torch.arange(SAMPLES) % period < period // 2, 1.0, -1.0)
    return wave.expand(1, 4, 2, -1).clone()


HARD: dict[str, Callable[[], Tensor]] = {
    "silence": lambda: torch.zeros(1, 4, 2, SAMPLES),
    "mono": lambda: music(SAMPLES)[:, :, :1].expand(-1, -1, 2, -1),
    "silent left": lambda: music(SAMPLES) * torch.tensor([0.0, 1.0])[:, None],
    "silent stem": lambda: music(SAMPLES) * torch.tensor([1.0, 0.0, 1.0, 1.0])[:, None, None],
    "one stem": lambda: music(SAMPLES) * torch.tensor([0.0, 0.0, 1.0, 0.0])[:, None, None],
    "constant": lambda: torch.full((1, 4, 2, SAMPLES), 0.5),
    "opposite constants": lambda: torch.tensor([1.0, -1.0])[:, None].expand(1, 4, 2, SAMPLES),
    "full-scale square": lambda: _square(100),
    "square at half the rate": lambda: _square(2),
    "one sample": lambda: _impulse(1.0, 12_345),
    "first sample": lambda: _impulse(1.0, 0),
    "last sample": lambda: _impulse(-1.0, SAMPLES - 1),
    "one faint sample": lambda: _impulse(2.0**-15, 12_345),
    "faintest sample": lambda: _impulse(1e-38, 12_345),
    "faint noise": lambda: music(SAMPLES) * 1e-6,
    "loud noise": lambda: music(SAMPLES) * 1e4,
    "cancelling stems": lambda: torch.tensor([1.0, -1, 1, -1])[:, None, None] * music(SAMPLES)[:, :1],
    "shortest clip": lambda: music(17_640),
}
"""Clips [1, 4, 2, T] that break such things: silence, constants, single samples."""


def within_limits(values: Tensor) -> None:
    """Asserts that values [D] of one of `HARD` are finite and within what docs/descriptors.md allows."""
    for name, value in named(values).items():
        assert np.isfinite(value), name
        low, high = {
            "dbfs": (-120, 100),
            "lufs": (-70, 100),
            "lu": (-60, 60),
            "octave": (-60, 60),
            "share": (0, 1),
            "correlation": (-1, 1),
        }.get(name.rsplit("_", 1)[1], (-80, 60))
        if "crest" in name:  # one sample of many: 10 log10(2 T)
            low, high = 0, 10 * np.log10(2 * SAMPLES) + 1e-3
        assert low <= value <= high + 1e-5, name
