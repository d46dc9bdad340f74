"""Log-mel spectrograms of the four stems: what the encoder sees.

The mel scale is Slaney's (linear below 1 kHz, logarithmic above), because at the published 128 mels and a window of
1024 samples the HTK scale spaces its lowest filters closer than the bins of the transform, so that one of them has
no bin at all and others share theirs; Slaney's filters each hold a bin. Filters are not normalised by their width:
a filter then sums power as an ear's band does, and music's level falls little from low mels to high ones.
"""

import warnings

import torch
import torchaudio
from torch import Tensor, nn

from mixstyle.pipeline.core.precision import exact_float32
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS

FLOOR_POWER = 1e-9
"""Added to a mel's power before the logarithm: 90 dB below a full-scale sine, under the noise of 16-bit stems."""
CENTER_DB = -50.0
SCALE_DB = 20.0
"""Decibels are mapped to (dB - CENTER_DB) / SCALE_DB, about -2 (silence) to 2.5 (full scale)."""

CHANNEL_PAIRS = ("left-right", "mid-side")
"""What the two channels of each stem may be."""

_CHANNELS_AT_ONCE = {"cpu": 2}  # on CPUs their frames then stay in the cache: twice as fast
_CHANNELS_AT_ONCE_ELSEWHERE = 128


class StemMel(nn.Module):
    """Stems to normalised log-mel spectrograms.

    n_fft: samples of the Hann window; hop_length: samples from frame to frame, by which n_fft must be divisible,
    so that frames of a coarser hop are frames of this one too. Raises ValueError for a hop that does not divide
    n_fft, for so many mels that a filter would be empty, and for channels that there are not.

    channels: "left-right", or "mid-side": (left + right) / 2 and (left - right) / 2 of each stem.

    >>> StemMel()(torch.zeros(2, 4, 2, 44_100)).shape
    torch.Size([2, 8, 128, 173])
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self,
        sample_rate: int = SAMPLE_RATE,
        n_fft: int = 1024,
        hop_length: int = 256,
        n_mels: int = 128,
        channels: str = "left-right",
    ) -> None:
        super().__init__()
        if channels not in CHANNEL_PAIRS:
            raise ValueError(f"channels={channels!r} should be {' or '.join(CHANNEL_PAIRS)}")
        self.channels = channels
        if min(sample_rate, n_fft, hop_length, n_mels) < 1:
            raise ValueError("sample_rate, n_fft, hop_length and n_mels should be 1 or more")
        if n_fft % hop_length:
            raise ValueError(f"hop_length={hop_length} does not divide n_fft={n_fft}; take n_fft/2 or n_fft/4, say")
        self.sample_rate, self.n_fft, self.hop_length, self.n_mels = sample_rate, n_fft, hop_length, n_mels
        filters = mel_filters(sample_rate, n_fft, n_mels)
        window = torch.hann_window(n_fft, dtype=torch.float64)
        # A full-scale sine that is on a bin gets power 1 there: its peak in the transform is sum(window) / 2.
        self.register_buffer("window", (window * 2 / window.sum()).float(), persistent=False)
        self.register_buffer("filters", filters, persistent=False)

    def frames(self, samples: int) -> int:
        """Frames of a clip of that many samples: one centred on every multiple of hop_length, 0 included."""
        return 1 + samples // self.hop_length

    def spectrum(self, stems: Tensor) -> Tensor:
        """Complex spectrum [B, 8, n_fft // 2 + 1, frames] of stems [B, 4, 2, T]; channels are stem-major.

        Amplitudes are scaled so that a full-scale sine has magnitude 1. Raises ValueError as `forward` does.
        """
        self._check(stems)
        return self._transform(self._pairs(stems).flatten(0, 2)).unflatten(0, (stems.shape[0], 2 * len(STEMS)))

    def log_mel(self, spectrum: Tensor) -> Tensor:
        """Normalised log-mel [..., n_mels, frames] of what `spectrum` returned, or of some of its channels."""
        power = spectrum.real.square() + spectrum.imag.square()
        with exact_float32(power.device):
            mel = self.filters.T @ power
        return (10 * torch.log10(mel + FLOOR_POWER) - CENTER_DB) / SCALE_DB

    def forward(self, stems: Tensor) -> Tensor:
        """Log-mel [B, 8, n_mels, frames] of stems [B, 4, 2, T] in float32, also under autocast.

        Channels go through in parts: spectra of 72 clips of 10 s would take 6 GB. Raises ValueError for another
        shape and for clips no longer than half a window, which cannot be reflected at their ends.
        """
        self._check(stems)
        at_once = _CHANNELS_AT_ONCE.get(stems.device.type, _CHANNELS_AT_ONCE_ELSEWHERE)
        parts = self._pairs(stems).flatten(0, 2).split(at_once)
        with torch.autocast(stems.device.type, enabled=False):
            mel = torch.cat([self.log_mel(self._transform(part)) for part in parts])
        return mel.unflatten(0, (stems.shape[0], 2 * len(STEMS)))

    def _pairs(self, stems: Tensor) -> Tensor:
        """[B, 4, 2, T] with the channels that are asked for."""
        if self.channels == "left-right":
            return stems
        left, right = stems.unbind(2)
        return torch.stack([(left + right) / 2, (left - right) / 2], 2)

    def _check(self, stems: Tensor) -> None:
        if stems.ndim != 4 or stems.shape[1:3] != (len(STEMS), 2):
            raise ValueError(f"stems should be [B, {len(STEMS)}, 2, T], not {list(stems.shape)}")
        if stems.shape[-1] <= self.n_fft // 2:
            raise ValueError(f"a clip of {stems.shape[-1]} samples is too short for n_fft={self.n_fft}")

    def _transform(self, channels: Tensor) -> Tensor:
        """[N, T] to [N, n_fft // 2 + 1, frames]."""
        window = self.window
        return torch.stft(
            channels.float(), self.n_fft, self.hop_length, window=window, center=True, return_complex=True
        )


def mel_filters(sample_rate: int, n_fft: int, n_mels: int) -> Tensor:
    """Triangular filters [n_fft // 2 + 1, n_mels] from 0 Hz to half the rate, on Slaney's scale, peaks near 1.

    Raises ValueError when a filter holds no bin of the transform: its mel would be constant.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty filters are refused below, by name
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, 0.0, sample_rate / 2, n_mels, sample_rate, norm=None, mel_scale="slaney"
        )
    empty = (filters.amax(0) <= 0).nonzero().flatten().tolist()
    if empty:
        raise ValueError(
            f"n_mels={n_mels} leaves mel {empty[0]} without a bin at n_fft={n_fft}: take fewer mels or a longer window"
        )
    return filters
