"""SCNet, the sparse compression network for music source separation, in both forms that are published.

Tong, Zhu, Chen, Kang, Jiang, Li, Xu: *SCNet: Sparse Compression Network for Music Source Separation*,
ICASSP 2024 (arXiv:2401.13276). `plain`: the network puts out the stems' spectrograms. `masked`: the input gets a
learnt embedding of each frequency, and the network puts out a complex mask for the mixture's spectrogram.

Parameter names and shapes are those of the checkpoints that Music-Source-Separation-Training publishes, so these load
unchanged; names in capitals (`SDlayer`) are theirs. Letters: B items, C channels, F frequency bins, T frames.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS

Form = Literal["plain", "masked"]
POSITION_KEY = "pos_embed_f"
"""The parameter that only the masked form has."""


@dataclass(frozen=True)
class SCNetConfig:
    """The `model` section of a separator's YAML; names and defaults are the published ones."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    audio_channels: int = 2
    dims: tuple[int, ...] = (4, 32, 64, 128)
    """Channels of the input (two for each audio channel) and after each encoder block."""
    nfft: int = 4096
    hop_size: int = 1024
    win_size: int = 4096
    normalized: bool = True
    band_SR: tuple[float, ...] = (0.175, 0.392, 0.433)  # noqa: N815 (published name)
    """Shares of the frequency axis that the three bands take."""
    band_stride: tuple[int, ...] = (1, 4, 16)
    band_kernel: tuple[int, ...] = (3, 4, 16)
    conv_depths: tuple[int, ...] = (3, 2, 1)
    compress: int = 4
    conv_kernel: int = 3
    num_dplayer: int = 6
    expand: int = 1

    def __post_init__(self) -> None:
        """Refuses what the network cannot be built from; raises MixstyleError naming the setting."""

        def refuse(name: str, why: str) -> None:
            raise MixstyleError(f"model.{name}={getattr(self, name)}: {why}", code="bad-setting")

        if sorted(self.sources) != sorted(STEMS):
            refuse("sources", f"only a separator of {', '.join(sorted(STEMS))} can be used")
        if self.audio_channels != 2:
            refuse("audio_channels", "only stereo separators can be used")
        if len(self.dims) < 2 or self.dims[0] != 2 * self.audio_channels:
            refuse("dims", f"should begin with {2 * self.audio_channels} and hold at least two numbers")
        if self.num_dplayer % 2:
            refuse("num_dplayer", "should be even: every second layer works on the spectrum over time")
        if self.conv_kernel % 2 == 0:
            refuse("conv_kernel", "should be odd")
        for name in ("band_SR", "band_stride", "band_kernel", "conv_depths"):
            if len(getattr(self, name)) != 3:
                refuse(name, "should hold three numbers, a band each")
        if self.win_size > self.nfft:
            refuse("win_size", f"is longer than nfft={self.nfft}")

    @property
    def least_chunk_frames(self) -> int:
        """The shortest audio, in samples, that the network takes."""
        return self.nfft

    @classmethod
    def from_mapping(cls, model: Mapping[str, Any]) -> "SCNetConfig":
        """Builds from a YAML's `model` section; settings that SCNet does not have are refused by name."""
        known = {field.name for field in fields(cls)}
        unknown = sorted(map(str, set(model) - known))
        if unknown:
            raise MixstyleError(f"model.{unknown[0]}: SCNet has no such setting", code="unknown-setting")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list | tuple) else v for k, v in model.items()}
        try:
            return cls(**values)
        except TypeError as error:
            raise MixstyleError(f"`model` has a value of the wrong type ({error})", code="bad-setting") from error


class ConvolutionModule(nn.Module):
    """Residual branches over time, at each frequency alone: [N, C, T] -> [N, C, T]."""

    def __init__(self, channels: int, depth: int, compress: int, kernel: int) -> None:
        super().__init__()
        hidden = channels // compress
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.GroupNorm(1, channels),
                nn.Conv1d(channels, 2 * hidden, kernel, padding=kernel // 2),
                nn.GLU(1),
                nn.Conv1d(hidden, hidden, kernel, padding=kernel // 2, groups=hidden),
                nn.GroupNorm(1, hidden),
                nn.SiLU(),
                nn.Conv1d(hidden, channels, 1),
            )
            for _ in range(abs(depth))
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + layer(x)
        return x


def band_edges(bins: int, shares: Sequence[float]) -> tuple[int, int, int, int]:
    """Edges of the three bands on an axis of `bins`: the shares' running sums, rounded up."""
    return 0, math.ceil(bins * shares[0]), math.ceil(bins * (shares[0] + shares[1])), bins


class SparseDown(nn.Module):
    """Shrinks each band by its own stride: [B, C, F, T] -> three tensors [B, C', F_i, T]."""

    def __init__(self, channels_in: int, channels_out: int, config: SCNetConfig) -> None:
        super().__init__()
        self.shares = config.band_SR
        self.convs = nn.ModuleList(
            nn.Conv2d(channels_in, channels_out, (kernel, 1), (stride, 1))
            for kernel, stride in zip(config.band_kernel, config.band_stride, strict=True)
        )
        self.shapes = tuple(zip(config.band_kernel, config.band_stride, strict=True))

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[int]]:
        edges = band_edges(x.shape[2], self.shares)
        bands, bins = [], []
        for conv, (kernel, stride), low, high in zip(self.convs, self.shapes, edges[:-1], edges[1:], strict=True):
            # stride 1 keeps the length; a larger stride pads up to the next multiple of itself
            padding = kernel - 1 if stride == 1 else -(high - low) % stride
            padded = F.pad(x[:, :, low:high], (0, 0, padding // 2, padding - padding // 2))
            bands.append(conv(padded))
            bins.append(high - low)
        return bands, bins


class SparseUp(nn.Module):
    """Undoes `SparseDown`: [B, C, sum of F_i, T] -> [B, C', F, T]."""

    def __init__(self, channels_in: int, channels_out: int, config: SCNetConfig) -> None:
        super().__init__()
        self.convtrs = nn.ModuleList(
            nn.ConvTranspose2d(channels_in, channels_out, (kernel, 1), (stride, 1))
            for kernel, stride in zip(config.band_kernel, config.band_stride, strict=True)
        )

    def forward(self, x: Tensor, lengths: Sequence[int], bins: Sequence[int]) -> Tensor:
        bands = []
        for conv, band, size in zip(self.convtrs, x.split(list(lengths), dim=2), bins, strict=True):
            grown = conv(band)
            cut = abs(size - grown.shape[2]) // 2
            bands.append(grown[:, :, cut : cut + size])
        return torch.cat(bands, dim=2)


class EncoderBlock(nn.Module):
    """Sparse down-sampling, convolution modules a band, and one convolution over all bands."""

    def __init__(self, channels_in: int, channels_out: int, config: SCNetConfig) -> None:
        super().__init__()
        self.SDlayer = SparseDown(channels_in, channels_out, config)
        self.conv_modules = nn.ModuleList(
            ConvolutionModule(channels_out, depth, config.compress, config.conv_kernel) for depth in config.conv_depths
        )
        self.globalconv = nn.Conv2d(channels_out, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
        bands, bins = self.SDlayer(x)
        done = []
        for module, band in zip(self.conv_modules, bands, strict=True):
            B, C, Fb, T = band.shape
            rows = band.transpose(1, 2).reshape(B * Fb, C, T)
            done.append(module(rows).view(B, Fb, C, T).transpose(1, 2))
        lengths = [band.shape[2] for band in done]
        skip = F.gelu(torch.cat(done, dim=2))
        return self.globalconv(skip), skip, lengths, bins


class Fusion(nn.Module):
    """Adds the encoder's skip and gates: [B, C, F, T] twice -> [B, C, F, T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        # The published layer convolves [x, x]: the same as x with both halves of the kernel added, at half the work.
        first, second = self.conv.weight.chunk(2, dim=1)
        return F.glu(F.conv2d(x + skip, first + second, self.conv.bias, padding=1), dim=1)


class DualPath(nn.Module):
    """A bidirectional LSTM along frequency, then one along time, each residual: [B, C, F, T] -> the same."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        hidden = channels * expand
        self.lstm_layers = nn.ModuleList(
            nn.LSTM(channels, hidden, batch_first=True, bidirectional=True) for _ in range(2)
        )
        self.linear_layers = nn.ModuleList(nn.Linear(2 * hidden, channels) for _ in range(2))
        self.norm_layers = nn.ModuleList(nn.GroupNorm(1, channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        B, C, Fr, T = x.shape
        rows = self.norm_layers[0](x).permute(0, 3, 2, 1).reshape(B * T, Fr, C)
        rows = self.linear_layers[0](self.lstm_layers[0](rows)[0])
        x = x + rows.view(B, T, Fr, C).permute(0, 3, 2, 1)
        rows = self.norm_layers[1](x).permute(0, 2, 3, 1).reshape(B * Fr, T, C)
        rows = self.linear_layers[1](self.lstm_layers[1](rows)[0])
        return x + rows.view(B, Fr, T, C).permute(0, 3, 1, 2)


class SeparationNet(nn.Module):
    """Dual-path layers, every second one on the spectrum of the time axis (real and imaginary as channels)."""

    def __init__(self, channels: int, expand: int, layers: int) -> None:
        super().__init__()
        self.dp_modules = nn.ModuleList(DualPath(channels * (1 + i % 2), expand) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for i, layer in enumerate(self.dp_modules):
            x = layer(x).float()  # FFTs have no half precision
            if i % 2 == 0:
                spectrum = torch.fft.rfft(x, dim=3, norm="ortho")
                x = torch.cat([spectrum.real, spectrum.imag], dim=1)
            else:
                real, imaginary = x.chunk(2, dim=1)
                x = torch.fft.irfft(torch.complex(real, imaginary), dim=3, norm="ortho")
        return x


class SCNet(nn.Module):
    """SCNet: mixtures [B, 2, T] -> stems [B, S, 2, T], S sources in the order of `config.sources`."""

    window: Tensor

    def __init__(self, config: SCNetConfig, form: Form = "masked") -> None:
        super().__init__()
        self.config, self.form = config, form
        dims, sources = config.dims, len(config.sources)
        bins = config.nfft // 2 + 1
        self.encoder = nn.ModuleList(EncoderBlock(a, b, config) for a, b in itertools.pairwise(dims))
        outputs = (dims[0] * sources, *dims[1:-1])
        self.decoder = nn.ModuleList(
            nn.Sequential(Fusion(dims[i + 1]), SparseUp(dims[i + 1], outputs[i], config))
            for i in reversed(range(len(dims) - 1))
        )
        self.separation_net = SeparationNet(dims[-1], config.expand, config.num_dplayer)
        # The plain form was trained without a window, which is the rectangular one.
        window = torch.ones(config.win_size)
        if form == "masked":
            if config.win_size != config.nfft:
                raise MixstyleError(
                    f"model.win_size={config.win_size}: should equal nfft={config.nfft}", code="bad-setting"
                )
            window = torch.hann_window(config.nfft)
            self.pos_embed_f = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, dims[0], bins, 1), std=0.02))
            self.mask_layer = nn.Sequential(
                nn.Conv2d(outputs[0], 64, 3, padding=1), nn.GELU(), nn.Conv2d(64, outputs[0], 1), nn.Tanh()
            )
        self.register_buffer("window", window, persistent=False)

    def forward(self, mixtures: Tensor) -> Tensor:
        """Separates mixtures [B, 2, T] (about full scale 1, longer than nfft // 2) into [B, S, 2, T]."""
        length, hop = mixtures.shape[-1], self.config.hop_size
        # Frames after the centred STFT must be even, for the FFT over time to be undone exactly.
        padding = hop - length % hop
        if (length + padding) // hop % 2 == 0:
            padding += hop
        spectrum = self._stft(F.pad(mixtures, (0, padding)))
        B, _, Fr, T = spectrum.shape
        out = self.network(torch.view_as_real(spectrum).permute(0, 1, 4, 2, 3).reshape(B, -1, Fr, T))
        shape = (B, len(self.config.sources), self.config.audio_channels, 2, Fr, T)
        out = torch.view_as_complex(out.float().view(shape).permute(0, 1, 2, 4, 5, 3).contiguous())
        stems = out * spectrum[:, None] if self.form == "masked" else out
        return self._istft(stems)[..., :length]

    def network(self, x: Tensor) -> Tensor:
        """Spectra [B, 4, F, T] (re, im of each channel) -> masks or spectra [B, 4 * S, F, T]."""
        if self.form == "masked":
            x = x + self.pos_embed_f
        saved = []
        for block in self.encoder:
            x, skip, lengths, bins = block(x)
            saved.append((skip, lengths, bins))
        x = self.separation_net(x)
        for block in self.decoder:
            fusion, up = block.children()
            skip, lengths, bins = saved.pop()
            x = up(fusion(x, skip), lengths, bins)
        return self.mask_layer(x) if self.form == "masked" else x

    def _stft(self, audio: Tensor) -> Tensor:
        flat = torch.stft(
            audio.flatten(0, -2),
            self.config.nfft,
            self.config.hop_size,
            self.config.win_size,
            self.window,
            normalized=self.config.normalized,
            return_complex=True,
        )
        return flat.unflatten(0, audio.shape[:-1])

    def _istft(self, spectra: Tensor) -> Tensor:
        flat = torch.istft(
            spectra.flatten(0, -3),
            self.config.nfft,
            self.config.hop_size,
            self.config.win_size,
            self.window,
            normalized=self.config.normalized,
        )
        return flat.unflatten(0, spectra.shape[:-2])


def form_of(state: Mapping[str, Tensor]) -> Form:
    """Tells by its keys which form a state dict belongs to."""
    return "masked" if POSITION_KEY in state else "plain"
