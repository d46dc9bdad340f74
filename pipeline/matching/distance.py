"""How far apart two versions of the same song are: the multi-resolution STFT distance.

R. Yamamoto, E. Song, J.-M. Kim: "Parallel WaveGAN", ICASSP 2020, eq. 4 to 6 (the sum of spectral convergence and of the
mean difference of log magnitudes, averaged over three resolutions), which papers on mixing report. Here over mid and
side, so that pan and width count, and of magnitudes no quieter than FLOOR.
"""

import torch
from torch import Tensor

RESOLUTIONS = ((512, 50, 240), (1024, 120, 600), (2048, 240, 1200))
"""Of the publication: transform, hop and window, in samples."""
FLOOR = 1e-4
"""-80 dB of a full-scale sine's magnitude, the window's gain counted; below, logarithms differ by silence alone."""


def mrstft(found: Tensor, wanted: Tensor) -> float:
    """The distance of audio [2, T] from what it should be, T alike. 0 for equal audio. Raises ValueError for others."""
    if found.shape != wanted.shape or found.ndim != 2 or found.shape[0] != 2:
        raise ValueError(f"two signals [2, T] of equal length, not {list(found.shape)} and {list(wanted.shape)}")
    total = 0.0
    pairs = [torch.stack([one[0] + one[1], one[0] - one[1]]) / 2 for one in (found, wanted)]
    for size, hop, length in RESOLUTIONS:
        window = torch.hann_window(length)
        a, b = (
            torch.stft(one, size, hop, length, window, return_complex=True)
            .abs()
            .clamp(min=FLOOR * float(window.sum()) / 2)
            for one in pairs
        )
        convergence = torch.linalg.vector_norm(b - a) / torch.linalg.vector_norm(b)
        total += float(convergence + (b.log() - a.log()).abs().mean())
    return total / len(RESOLUTIONS)
