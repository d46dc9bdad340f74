"""SCNet's forward pass rearranged for speed, with the numbers of `scnet_network`.

What differs from the module that trains, and why it gives the same numbers:
- Tensors stay in one memory layout, [B, F, T, C] with the channels innermost. Convolutions read it as channels-last,
  an LSTM along frequency reads it as it is, and one along time after a single transposition.
- A group norm before an LSTM keeps only its statistics; its weight and bias are folded into the LSTM's input weights.
- In every second dual-path layer, real and imaginary parts alternate instead of standing in two halves: a complex
  spectrum is then such a tensor without a copy. The weights of these layers are reordered to fit.
- The published fusion convolves its input twice with two halves of a kernel; the halves are added once.
- A transposed convolution whose stride is its kernel is a matrix product; one of stride 1 is a convolution.
- On CPUs the masks are made a few frequencies at a time, so that their 64 channels never leave the cache.

With `dtype` bfloat16 or float16, convolutions, LSTMs and linear layers compute in it; norms, FFTs and the residual
sums of the dual path stay in float32.
"""

import copy
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.separation.architectures.scnet_network import (
    ConvolutionModule,
    DualPath,
    EncoderBlock,
    Fusion,
    SCNet,
    SparseUp,
    band_edges,
)
from mixstyle.pipeline.separation.architectures.scnet_transforms import (
    Transforms,
    frames_first,
    frames_last,
    with_real_ends,
)
from mixstyle.pipeline.separation.kernels.lstm import KernelMask, KernelNorm, LstmKernel, ResidualLstm, kernel_glu

Kind = TypeVar("Kind", bound=nn.Module)

_MASK_ROWS_BYTES = 2_000_000
"""On CPUs, the 64 channels of the mask layer are held for so many bytes' worth of frequencies."""


class InferenceSCNet(nn.Module):
    """An SCNet for inference: mixtures [B, 2, T] -> stems [B, S, 2, T] in float32.

    network: the trained network; its weights are copied. dtype: what the heavy layers compute in.
    """

    def __init__(self, network: SCNet, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.config, self.form, self.dtype = network.config, network.form, dtype
        self.transforms = Transforms(network)
        self.encoder = nn.ModuleList(_Encoder(_typed(block, EncoderBlock), dtype) for block in network.encoder)
        self.dual_path = nn.ModuleList(
            _DualPath(_typed(layer, DualPath), dtype, interleaved=i % 2 == 1)
            for i, layer in enumerate(network.separation_net.dp_modules)
        )
        self.decoder = nn.ModuleList(_Decoder(block, dtype) for block in network.decoder)
        self.position, self.mask = None, None
        if network.form == "masked":
            self.position = nn.Parameter(network.pos_embed_f.detach().permute(0, 2, 3, 1).contiguous())
            self.mask = _Mask(network.mask_layer, dtype)
        self.requires_grad_(False).eval()

    def use_lstm_kernel(self, kernel: LstmKernel | None) -> bool:
        """Has a kernel compute the dual path on a CPU, or torch again; False where the kernel does not take it."""
        layers = [_typed(layer, _DualPath) for layer in self.dual_path]
        taken = kernel is not None and all(kernel.takes(*pair) for layer in layers for pair in layer.pairs)
        for module in self.modules():
            if isinstance(module, _DualPath | _GatedConv | _Residual | _Mask):
                module.use_kernel(kernel if taken else None)
        return taken

    def forward(self, mixtures: Tensor) -> Tensor:
        """Separates mixtures [B, 2, T] (about full scale 1, longer than nfft // 2) into [B, S, 2, T], in float32."""
        length = mixtures.shape[-1]
        spectrum = self.transforms.forward_stft(mixtures)  # [B, 2, T, F], complex
        x = frames_last(spectrum)
        if self.position is not None:
            x = x + self.position
        out = self.network(x.to(self.dtype))
        stems = frames_first(out).unflatten(1, (len(self.config.sources), self.config.audio_channels))
        if self.form == "masked":
            stems = stems.mul_(spectrum[:, None])
        return self.transforms.inverse_stft(stems, length)

    def network(self, x: Tensor) -> Tensor:
        """Spectra [B, F, T, 4] (re, im of each channel) -> masks or spectra [B, F, T, 4 * S]."""
        saved = []
        for encode in self.encoder:
            x, skip, lengths, bins = encode(x)
            saved.append((skip, lengths, bins))
        x = x.float().contiguous()
        for i, layer in enumerate(self.dual_path):
            x = layer(x)
            if i % 2 == 0:
                spectrum = torch.fft.rfft(x, dim=2, norm="ortho").contiguous()
                x = torch.view_as_real(spectrum).flatten(3)
            else:
                spectrum = with_real_ends(torch.view_as_complex(x.unflatten(3, (-1, 2))), 2)
                x = torch.fft.irfft(spectrum, dim=2, norm="ortho").contiguous()
        x = x.to(self.dtype)
        for decode in self.decoder:
            x = decode(x, *saved.pop())
        return x if self.mask is None else self.mask(x)


class _Conv(nn.Module):
    """A 2-D convolution [B, F, T, C] -> [B, F', T', C'] whose kernel is [C', C, over F, over T]."""

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype,
        *,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.groups = (stride, 1), padding, groups
        self.weight = nn.Parameter(weight.detach().to(dtype).contiguous(memory_format=torch.channels_last))
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype))

    def forward(self, x: Tensor) -> Tensor:
        if self.weight.shape[2:] == (1, 1):
            return F.linear(x, self.weight[:, :, 0, 0], self.bias)
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        return y.permute(0, 2, 3, 1).contiguous()  # as it is already, but for one channel or one frame


class _GatedConv(nn.Module):
    """A convolution and the gated linear unit of its output: [B, F, T, C] -> [B, F, T, C'], its kernel [2 C', ...].

    On CPUs torch's unit is slow on few channels of half precision: values and gates are convolved separately there.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype, padding: tuple[int, int]) -> None:
        super().__init__()
        channels = weight.shape[0] // 2
        self.split = dtype != torch.float32 and 32 <= channels < 64
        parts = [slice(0, channels), slice(channels, None)] if self.split else [slice(None)]
        self.convs = nn.ModuleList(
            _Conv(weight[part], None if bias is None else bias[part], dtype, padding=padding) for part in parts
        )
        self._kernel: LstmKernel | None = None
        self._conv: list[_Conv] = []

    def use_kernel(self, kernel: LstmKernel | None) -> None:
        """A kernel computes the unit from now on, on one convolution of both; or torch."""
        self._kernel, self._conv = kernel, []
        if kernel is not None:
            parts = [_typed(conv, _Conv) for conv in self.convs]
            weight, biases = torch.cat([conv.weight for conv in parts]), [conv.bias for conv in parts]
            bias = torch.cat([bias for bias in biases if bias is not None]) if biases[0] is not None else None
            self._conv = [_Conv(weight, bias, weight.dtype, padding=parts[0].padding)]

    def forward(self, x: Tensor) -> Tensor:
        if self._kernel is not None:
            return kernel_glu(self._conv[0](x), self._kernel)
        if self.split:
            value, gate = (conv(x) for conv in self.convs)
            return value.mul_(gate.sigmoid_())
        return F.glu(self.convs[0](x), dim=-1)


class _Residual(nn.Module):
    """One branch of `ConvolutionModule` and its sum, on rows [N, 1, T, C], a frequency each."""

    def __init__(self, branch: nn.Sequential, dtype: torch.dtype) -> None:
        super().__init__()
        norm, wide, _, depthwise, inner_norm, _, narrow = branch.children()
        self.norm, self.inner_norm = copy.deepcopy(norm).to(dtype), copy.deepcopy(inner_norm).to(dtype)
        wide, depthwise, narrow = _typed(wide, nn.Conv1d), _typed(depthwise, nn.Conv1d), _typed(narrow, nn.Conv1d)
        padding = (0, wide.kernel_size[0] // 2)
        self.wide = _GatedConv(wide.weight[:, :, None], wide.bias, dtype, padding)
        weight, groups = depthwise.weight[:, :, None], depthwise.groups
        self.depthwise = _Conv(weight, depthwise.bias, dtype, padding=padding, groups=groups)
        self.narrow = _Conv(narrow.weight[:, :, None], narrow.bias, dtype)
        self._on_kernel: list[KernelNorm] = []

    def use_kernel(self, kernel: LstmKernel | None) -> None:
        """A kernel computes the norms from now on, or torch."""
        norms = [_typed(norm, nn.GroupNorm) for norm in (self.norm, self.inner_norm)]
        self._on_kernel = [] if kernel is None else [KernelNorm(norm, kernel) for norm in norms]

    def forward(self, x: Tensor) -> Tensor:
        if self._on_kernel:
            norm, inner_norm = self._on_kernel
            y = self.depthwise(self.wide(norm(x)))
            return self.narrow(inner_norm(y, silu=True)).add_(x)
        y = self.depthwise(self.wide(_normed(self.norm, x)))
        return self.narrow(F.silu(_normed(self.inner_norm, y))).add_(x)


class _Encoder(nn.Module):
    """`EncoderBlock`: [B, F, T, C] -> the same after down-sampling, the skip, and what the decoder must know."""

    def __init__(self, block: EncoderBlock, dtype: torch.dtype) -> None:
        super().__init__()
        down = block.SDlayer
        self.shares, self.shapes = down.shares, down.shapes
        self.down = nn.ModuleList(
            _Conv(conv.weight, conv.bias, dtype, stride=stride)  # pyright: ignore[reportArgumentType]
            for conv, (_, stride) in zip(down.convs, self.shapes, strict=True)
        )
        self.rows = nn.ModuleList(
            nn.Sequential(*(_Residual(_typed(branch, nn.Sequential), dtype) for branch in _layers(module)))
            for module in block.conv_modules
        )
        self.across = _Conv(block.globalconv.weight, block.globalconv.bias, dtype, padding=(1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, list[int], list[int]]:
        B, Fr, T, _ = x.shape
        edges = band_edges(Fr, self.shares)
        bands, bins = [], []
        for down, rows, (kernel, stride), low, high in zip(
            self.down, self.rows, self.shapes, edges[:-1], edges[1:], strict=True
        ):
            padding = kernel - 1 if stride == 1 else -(high - low) % stride
            band = x[:, low:high]
            if padding:
                band = F.pad(band, (0, 0, 0, 0, padding // 2, padding - padding // 2))
            band = down(band)
            bands.append(rows(band.view(-1, 1, T, band.shape[3])).view(B, -1, T, band.shape[3]))
            bins.append(high - low)
        skip = F.gelu(torch.cat(bands, dim=1))
        return self.across(skip), skip, [band.shape[1] for band in bands], bins


class _DualPath(nn.Module):
    """`DualPath` on [B, F, T, C] in float32, in place. interleaved: channels 2i, 2i+1 are the trained i, C/2+i."""

    def __init__(self, layer: DualPath, dtype: torch.dtype, interleaved: bool) -> None:
        super().__init__()
        self.dtype = dtype
        norms = [_typed(norm, nn.GroupNorm) for norm in layer.norm_layers]
        channels = norms[0].num_channels
        order = torch.arange(channels)
        if interleaved:
            order = order.view(2, -1).T.flatten()
        self.eps = [norm.eps for norm in norms]
        self.lstms, self.linears = nn.ModuleList(), nn.ModuleList()
        self._on_kernel: list[ResidualLstm] = []
        for trained, norm, outward in zip(layer.lstm_layers, norms, layer.linear_layers, strict=True):
            self.lstms.append(_folded_lstm(_typed(trained, nn.LSTM), norm, order).to(dtype))
            linear = copy.deepcopy(_typed(outward, nn.Linear))
            linear.weight = nn.Parameter(linear.weight.detach()[order].contiguous())
            linear.bias = nn.Parameter(linear.bias.detach()[order].contiguous())
            self.linears.append(linear.to(dtype))

    @property
    def pairs(self) -> list[tuple[nn.LSTM, nn.Linear]]:
        """An LSTM and the linear layer after it, along frequency and along time."""
        lstms, linears = ([*modules] for modules in (self.lstms, self.linears))
        return [(_typed(a, nn.LSTM), _typed(b, nn.Linear)) for a, b in zip(lstms, linears, strict=True)]

    def use_kernel(self, kernel: LstmKernel | None) -> None:
        """A kernel that takes both pairs computes from now on, or torch."""
        self._on_kernel = []
        if kernel is not None:
            self._on_kernel = [ResidualLstm(*pair, eps, kernel) for pair, eps in zip(self.pairs, self.eps, strict=True)]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "_DualPath":
        """As every module; on GPUs the weights of an LSTM in bfloat16 are then one block of memory.

        `nn.LSTM` does so for other precisions only (torch 2.11). Without it, cuDNN copies the weights at every call.
        """
        super()._apply(fn, recurse)
        for lstm, _ in self.pairs:
            weight = lstm.weight_ih_l0
            if weight.is_cuda and weight.dtype == torch.bfloat16:
                sizes = lstm.input_size, torch.backends.cudnn.rnn.get_cudnn_mode("LSTM"), lstm.hidden_size
                flatten = torch._cudnn_rnn_flatten_weight  # pyright: ignore[reportPrivateImportUsage]
                with torch.no_grad(), torch.cuda.device_of(weight), suppress(RuntimeError):  # it is for speed alone
                    flatten([*lstm.parameters()], 4, *sizes, 0, 1, lstm.batch_first, True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        if self._on_kernel:
            over_frequency, over_time = self._on_kernel
            return over_time.added_to(over_frequency.added_to(x, over_time=False), over_time=True)
        B, Fr, T, C = x.shape
        rows = _standardised(x, self.eps[0]).to(self.dtype).transpose(0, 1).reshape(Fr, B * T, C)
        rows = self.linears[0](self.lstms[0](rows)[0])
        x = x.add_(rows.view(Fr, B, T, C).transpose(0, 1))
        rows = _standardised(x, self.eps[1]).to(self.dtype).permute(2, 0, 1, 3).reshape(T, B * Fr, C)
        rows = self.linears[1](self.lstms[1](rows)[0])
        return x.add_(rows.view(T, B, Fr, C).permute(1, 2, 0, 3))


class _Decoder(nn.Module):
    """`Fusion` and `SparseUp`: [B, sum of F_i, T, C] and the encoder's skip -> [B, F, T, C']."""

    def __init__(self, block: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        fusion, up = block.children()
        fusion, up = _typed(fusion, Fusion), _typed(up, SparseUp)
        first, second = fusion.conv.weight.detach().chunk(2, dim=1)
        self.fusion = _GatedConv(first + second, fusion.conv.bias, dtype, (1, 1))
        self.up = nn.ModuleList(_Up(_typed(conv, nn.ConvTranspose2d), dtype) for conv in up.convtrs)

    def forward(self, x: Tensor, skip: Tensor, lengths: Sequence[int], bins: Sequence[int]) -> Tensor:
        x = self.fusion(x + skip)
        bands = [up(band, size) for up, band, size in zip(self.up, x.split(list(lengths), 1), bins, strict=True)]
        return torch.cat(bands, dim=1)


class _Up(nn.Module):
    """One band of `SparseUp`, cut to its size: [B, F_i, T, C] -> [B, size, T, C']."""

    def __init__(self, conv: nn.ConvTranspose2d, dtype: torch.dtype) -> None:
        super().__init__()
        weight, bias = conv.weight.detach(), conv.bias  # [C, C', kernel, 1]
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.conv: nn.Module | None = None
        if self.stride == 1:
            self.conv = _Conv(weight.flip(2).transpose(0, 1), bias, dtype, padding=(self.kernel - 1, 0))
        elif self.stride == self.kernel:
            self.weight = nn.Parameter(weight[..., 0].permute(2, 1, 0).flatten(0, 1).to(dtype).contiguous())
            self.bias = None if bias is None else nn.Parameter(bias.detach().repeat(self.kernel).to(dtype))
        else:
            self.weight = nn.Parameter(weight.to(dtype))
            self.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype))

    def forward(self, x: Tensor, size: int) -> Tensor:
        B, Fr, T, _ = x.shape
        if self.conv is not None:
            grown = self.conv(x)
        elif self.stride == self.kernel:
            grown = F.linear(x, self.weight, self.bias).view(B, Fr, T, self.kernel, -1)
            grown = grown.transpose(2, 3).reshape(B, Fr * self.kernel, T, -1)
        else:
            grown = F.conv_transpose2d(x.permute(0, 3, 1, 2), self.weight, self.bias, (self.stride, 1))
            grown = grown.permute(0, 2, 3, 1)
        cut = abs(size - grown.shape[1]) // 2
        return grown[:, cut : cut + size]


class _Mask(nn.Module):
    """The masked form's last layers: [B, F, T, C] -> [B, F, T, C], within -1 to 1."""

    def __init__(self, layer: nn.Sequential, dtype: torch.dtype) -> None:
        super().__init__()
        wide, _, narrow, _ = layer.children()
        wide, narrow = _typed(wide, nn.Conv2d), _typed(narrow, nn.Conv2d)
        self.wide = _Conv(wide.weight, wide.bias, dtype, padding=(0, 1))  # over F it is padded here, once
        self.narrow = _Conv(narrow.weight, narrow.bias, dtype)
        self._on_kernel: list[KernelMask] = []

    def use_kernel(self, kernel: LstmKernel | None) -> None:
        """A kernel computes the layers from now on, where it takes them, or torch."""
        wide, narrow, self._on_kernel = self.wide, self.narrow, []
        if kernel is None or wide.bias is None or narrow.bias is None:
            return
        if KernelMask.takes(wide.weight, narrow.weight):
            self._on_kernel = [KernelMask(wide.weight, wide.bias, narrow.weight, narrow.bias, kernel)]

    def forward(self, x: Tensor) -> Tensor:
        if self._on_kernel:
            return self._on_kernel[0](x)
        B, Fr, T, _ = x.shape
        padded = F.pad(x, (0, 0, 0, 0, 1, 1))
        rows = Fr
        if x.device.type == "cpu":
            rows = max(8, _MASK_ROWS_BYTES // (B * T * self.wide.weight.shape[0] * x.element_size()))
        out = torch.empty_like(x)
        for start in range(0, Fr, rows):
            part = self.narrow(F.gelu(self.wide(padded[:, start : start + rows + 2])))
            torch.tanh(part, out=out[:, start : start + rows])
        return out


def _folded_lstm(trained: nn.LSTM, norm: nn.GroupNorm, order: Tensor) -> nn.LSTM:
    """The LSTM with the norm's weight and bias in its input weights: W (g x + b) + c = (W g) x + (W b + c)."""
    lstm = nn.LSTM(trained.input_size, trained.hidden_size, bidirectional=True)
    lstm.load_state_dict(trained.state_dict())
    gain, shift = norm.weight.detach(), norm.bias.detach()
    with torch.no_grad():
        for direction in ("", "_reverse"):
            weight, bias = getattr(lstm, f"weight_ih_l0{direction}"), getattr(lstm, f"bias_ih_l0{direction}")
            bias += weight @ shift
            weight.copy_((weight * gain)[:, order])
    return lstm


def _standardised(x: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(variance + eps) of each item [F, T, C], as a group norm of one group without weights."""
    if x.device.type == "cpu":
        return F.layer_norm(x, x.shape[1:], eps=eps)
    variance, mean = torch.var_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(variance + eps)  # a layer norm would give each item to one block of the GPU


def _layers(module: nn.Module) -> nn.ModuleList:
    return _typed(module, ConvolutionModule).layers


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    return norm(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).contiguous()


def _typed(module: nn.Module, kind: type[Kind]) -> Kind:
    """The module, known to be of its kind."""
    if not isinstance(module, kind):
        raise TypeError(f"expected {kind.__name__}, not {type(module).__name__}")
    return module
