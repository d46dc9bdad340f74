"""From audio to spectra and back for SCNet's inference: torch.stft's numbers in the order in which it reads them."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.separation.architectures.scnet_network import SCNet


class Transforms(nn.Module):
    """STFT and its inverse with frames before frequencies, as torch.stft and torch.istft make them."""

    window: Tensor

    def __init__(self, network: SCNet) -> None:
        super().__init__()
        self.nfft, self.hop = network.config.nfft, network.config.hop_size
        self.scale = self.nfft**-0.5 if network.config.normalized else 1.0
        margin = self.nfft - network.config.win_size
        window = F.pad(network.window.detach(), (margin // 2, margin - margin // 2))
        self.register_buffer("window", window, persistent=False)
        self.rectangular = bool((window == 1).all())

    def forward_stft(self, audio: Tensor) -> Tensor:
        """[B, 2, n] -> [B, 2, T, F]; T is even, for the FFT over time to be undone exactly."""
        padding = self.hop - audio.shape[-1] % self.hop
        if (audio.shape[-1] + padding) // self.hop % 2 == 0:
            padding += self.hop
        half = self.nfft // 2
        padded = F.pad(F.pad(audio.float(), (0, padding)), (half, half), mode="reflect")
        frames = padded.unfold(-1, self.nfft, self.hop)
        return torch.fft.rfft(frames * (self.window * self.scale))

    def inverse_stft(self, spectra: Tensor, length: int) -> Tensor:
        """[..., T, F] -> [..., length]: overlap-add over the sum of the squared windows."""
        frames = torch.fft.irfft(with_real_ends(spectra, -1), n=self.nfft)
        frames = frames.mul_(1 / self.scale) if self.rectangular else frames.mul_(self.window / self.scale)
        audio = _overlap_added(frames, self.hop)
        T = frames.shape[-2]
        weight = _overlap_added(self.window.square().expand(T, -1), self.hop)
        half = self.nfft // 2
        return audio[..., half : half + length] / weight[half : half + length]


def with_real_ends(spectrum: Tensor, dim: int, *, always: bool = False) -> Tensor:
    """Takes the imaginary parts off the first and the last frequency, in place, on GPUs (or always); the spectrum.

    An inverse real FFT of even length is documented to ignore them. On GPUs it does not for some lengths (torch's
    issue 154496).
    """
    if spectrum.is_cuda or always:
        for place in (0, -1):
            spectrum.select(dim, place).imag.zero_()
    return spectrum


def _overlap_added(frames: Tensor, hop: int) -> Tensor:
    """Frames [..., T, n], one every `hop` samples, summed: [..., at least (T - 1) * hop + n]."""
    T, n = frames.shape[-2:]
    parts = -(-n // hop)
    if n < parts * hop:
        frames = F.pad(frames, (0, parts * hop - n))
    audio = frames.new_zeros(*frames.shape[:-2], T + parts - 1, hop)
    for i in range(parts):
        audio[..., i : i + T, :] += frames[..., i * hop : (i + 1) * hop]
    return audio.flatten(-2)


def frames_last(spectrum: Tensor) -> Tensor:
    """Complex numbers [B, N, T, F] as [B, F, T, 2 * N]; a few frames at a time, as `frames_first`."""
    B, N, T, Fr = spectrum.shape
    out = torch.empty(B, Fr, T, N, dtype=spectrum.dtype, device=spectrum.device)
    step = 32 if spectrum.device.type == "cpu" else T
    for start in range(0, T, step):
        out[:, :, start : start + step] = spectrum[:, :, start : start + step].permute(0, 3, 2, 1)
    return torch.view_as_real(out).flatten(3)


def frames_first(x: Tensor) -> Tensor:
    """[B, F, T, 2 * N], of any precision, as complex numbers [B, N, T, F].

    On CPUs a few frames at a time: written as a whole, each value would be fetched from memory again.
    """
    B, Fr, T, C = x.shape
    out = torch.empty(B, C // 2, T, Fr, dtype=torch.complex64, device=x.device)
    step = 16 if x.device.type == "cpu" else T
    for start in range(0, T, step):
        part = x[:, :, start : start + step].float().unflatten(3, (-1, 2)).contiguous()
        out[:, :, start : start + step] = torch.view_as_complex(part).permute(0, 3, 2, 1)
    return out
