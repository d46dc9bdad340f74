"""Residual bidirectional LSTMs in bfloat16 by `lstm.c`, for processors that multiply such numbers; and gates and norms.

torch hands an LSTM to oneDNN, which multiplies a step's states of the whole batch at once: weights and sums leave the
cache at every step. The kernel takes 32 items of the batch through all steps instead, reads and adds to the residual as
it is, and so needs no transposition, either. Gated linear units and group norms are there because torch's take a
tenth of SCNet's time on rows of few channels. It is built by `mixstyle.cache.storage.compiled` where a C compiler is
there; without it only the speed and the last bits of the results differ.
"""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.core.threads import run_each

SOURCE = Path(__file__).with_name("lstm.c")
VERSION = 3
"""Counts changes of the kernel that move the last bits."""


@dataclass(frozen=True)
class Variant:
    """A set of instructions that the kernel can be built for."""

    name: str
    """What outputs note that were made with it."""
    flags: tuple[str, ...]
    """What the C compiler is told, beside making a shared library."""
    onednn_isas: tuple[str, ...]
    """Values of ONEDNN_MAX_CPU_ISA that allow these instructions."""
    processor: frozenset[str]
    """Flags of /proc/cpuinfo that it needs."""


_FLAGS = (
    *("-std=gnu11", "-O3", "-ffp-contract=off", "-fno-math-errno"),
    *("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx512bf16", "-mfma"),
)
_PROCESSOR = frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512_bf16"})
AMX = Variant(
    name=f"amx {VERSION}",
    flags=(*_FLAGS, "-mamx-tile", "-mamx-bf16"),
    onednn_isas=(
        "AVX512_CORE_AMX",
        "AVX512_CORE_AMX_FP16",
        "AVX10_1_512_AMX",
        "AVX10_1_512_AMX_FP16",
        "AVX10_2_512_AMX_2",
        "AVX10_2_AMX_2",
    ),
    processor=_PROCESSOR | {"amx_tile", "amx_bf16"},
)
"""On matrix tiles: Intel's Sapphire Rapids and later."""
AVX512 = Variant(
    name=f"avx512_bf16 {VERSION}",
    flags=_FLAGS,
    onednn_isas=(*AMX.onednn_isas, "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512", "AVX10_2_512", "AVX10_2"),
    processor=_PROCESSOR,
)
"""On vectors: AMD's Zen 4 and later, Intel's Cooper Lake."""
VARIANTS = (AMX, AVX512)
"""The fastest first. Their last bits differ."""
LARGEST_NOISE = 1e-4
"""Of the power of what a small layer adds: 40 dB below it. Rounding inputs and states to bfloat16 leaves 1e-5."""
_MULTIPLE = 32
"""Of which the sizes of inputs and states have to be multiples."""
_CACHED_BYTES = 1_500_000
"""Weights of a direction that stay in a second cache of 2 MB. Larger ones are read once a step for `_MANY` items. On an
EPYC, whose second cache has 1 MB, it makes no difference (layers of 256 and 512 channels)."""
_FEW, _MANY = 32, 256
_ROWS = 4096
"""Of the linear layer, as many as a thread takes at once."""

_POINTER, _INTEGER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float


class LstmKernel:
    """The library, built for a variant. Raises OSError where it is another one, or the system refuses the tiles."""

    def __init__(self, library: ctypes.CDLL, variant: Variant) -> None:
        self.variant = variant

        def function(name: str, result: Any, *arguments: Any) -> Any:
            found = getattr(library, name)
            found.restype, found.argtypes = result, arguments
            return found

        version = function("lstm_version", _INTEGER)()
        if version != VERSION:
            raise OSError(f"version {version} of the LSTM kernel, not {VERSION}")
        if function("lstm_prepare", _INTEGER)() != 0:
            raise OSError("the system does not grant the processor's matrix tiles")
        self.moments = function("moments", None, _POINTER, _INTEGER, _POINTER)
        self.lstm = function("lstm_bf16", None, *[_POINTER] * 7, *[_INTEGER] * 9, _FLOAT, _FLOAT)
        self.glu_rows = function("glu_bf16", None, _POINTER, _POINTER, _INTEGER, _INTEGER)
        self.norm_items = function(
            "norm_bf16", None, *[_POINTER] * 2, *[_INTEGER] * 2, *[_POINTER] * 2, _INTEGER, _FLOAT, _INTEGER
        )
        self.mask_rows = function("mask_bf16", None, *[_POINTER] * 7, *[_INTEGER] * 4)
        self.add_linear = function("add_linear_bf16", None, *[_POINTER] * 4, *[_INTEGER] * 3)

    def takes(self, lstm: nn.Module, linear: nn.Module) -> bool:
        """Whether it can compute these: a bidirectional `nn.LSTM` of bfloat16 and the linear layer after it."""
        if not (isinstance(lstm, nn.LSTM) and isinstance(linear, nn.Linear)):
            return False
        sizes = (lstm.input_size, lstm.hidden_size, linear.out_features)
        plain = lstm.bias and lstm.bidirectional and lstm.num_layers == 1 and not lstm.proj_size
        return plain and all(size % _MULTIPLE == 0 for size in sizes) and linear.weight.dtype == torch.bfloat16

    def check(self) -> None:
        """Computes a small layer beside torch in float32. Raises OSError where they differ by more than rounding."""
        generator = torch.Generator().manual_seed(0)
        lstm, linear = nn.LSTM(32, 64, bidirectional=True), nn.Linear(128, 32)
        for weight in [*lstm.parameters(), *linear.parameters()]:
            weight.requires_grad_(False).uniform_(-0.5, 0.5, generator=generator).copy_(weight.bfloat16())
        x = torch.randn(1, 5, 37, 32, generator=generator)
        wanted = linear(lstm(torch.nn.functional.layer_norm(x, x.shape[1:])[0])[0])
        layer = ResidualLstm(lstm.bfloat16(), linear.bfloat16(), 1e-5, self)
        noise = (layer.added_to(x.clone(), over_time=False) - x - wanted).square().sum() / wanted.square().sum()
        if not noise < LARGEST_NOISE:
            raise OSError(f"the LSTM kernel computes wrongly on this machine (noise {noise:.1e} of the power)")


class ResidualLstm:
    """x + linear(LSTM(standardised x)) on x [B, F, T, C], along one of its axes.

    lstm, linear: layers that the kernel takes; their weights are copied. eps: what is added to the variance of an item
    [F, T, C]. On as many threads as torch may use; their number does not move the result.
    """

    def __init__(self, lstm: nn.LSTM, linear: nn.Linear, eps: float, kernel: LstmKernel) -> None:
        self._kernel, self._eps, self._hidden = kernel, eps, lstm.hidden_size
        self._directions = [_packed(lstm, direction) for direction in ("", "_reverse")]
        self._linear = _tiles(linear.weight.detach()), linear.bias.detach().float()

    def added_to(self, x: Tensor, *, over_time: bool) -> Tensor:
        """Adds the layer along T, or F, to x [B, F, T, C] (float32, contiguous), in place; x."""
        y = torch.empty(*x.shape[:3], 2 * self._hidden, dtype=torch.bfloat16)
        for item, out in zip(x, y, strict=True):
            self._run_lstm(item, out, over_time)
        self._add_linear(x, y)
        return x

    def _run_lstm(self, x: Tensor, y: Tensor, over_time: bool) -> None:
        """Both directions of one item, x [F, T, C] -> y [F, T, 2 H]."""
        step, batch = (1, 0) if over_time else (0, 1)
        steps, items, C, H = x.shape[step], x.shape[batch], x.shape[2], self._hidden
        together = _FEW if 8 * H * (C + H) <= _CACHED_BYTES else _MANY
        mean, gain = self._standardising(x)

        def run(part: tuple[int, int]) -> None:
            backward, first = part
            count = min(together, items - first)
            weights, bias = self._directions[backward]
            scratch = torch.empty(count, H), *(torch.empty(n, dtype=torch.bfloat16) for n in (count * C, 2 * count * H))
            rows, out = x.narrow(batch, first, count), y.narrow(batch, first, count)[..., backward * H :]
            pointers = [tensor.data_ptr() for tensor in (rows, out, weights, bias, *scratch)]
            strides = [x.stride(step), x.stride(batch), y.stride(step), y.stride(batch)]
            self._kernel.lstm(*pointers, steps, count, C, H, *strides, backward, mean, gain)

        run_each(run, [(backward, first) for backward in (0, 1) for first in range(0, items, together)])

    def _standardising(self, x: Tensor) -> tuple[float, float]:
        """The mean of x [F, T, C], and the inverse of its deviation."""
        sums = torch.empty(2, dtype=torch.float64)
        self._kernel.moments(x.data_ptr(), x.numel(), sums.data_ptr())
        mean, square = (sums / x.numel()).tolist()
        return mean, (max(square - mean * mean, 0.0) + self._eps) ** -0.5

    def _add_linear(self, x: Tensor, y: Tensor) -> None:
        """x [B, F, T, C] += linear(y [B, F, T, 2 H])."""
        C, K = x.shape[-1], y.shape[-1]
        weights, bias = self._linear
        to, of = x.view(-1, C), y.view(-1, K)

        def run(first: int) -> None:
            pointers = (tensor.data_ptr() for tensor in (to[first:], of[first:], weights, bias))
            self._kernel.add_linear(*pointers, min(_ROWS, len(to) - first), C, K)

        run_each(run, range(0, len(to), _ROWS))


class KernelNorm:
    """A group norm of one group on rows [N, 1, T, C] in bfloat16, each standardised by itself.

    norm: its weights are copied.
    """

    def __init__(self, norm: nn.GroupNorm, kernel: LstmKernel) -> None:
        self._kernel, self._eps = kernel, norm.eps
        self._period = math.lcm(norm.num_channels, 16)
        repeats = self._period // norm.num_channels
        self._gain, self._shift = (w.detach().float().repeat(repeats) for w in (norm.weight, norm.bias))

    def __call__(self, x: Tensor, *, silu: bool = False) -> Tensor:
        """The norm of x, or its SiLU; a new tensor."""
        x = x.contiguous()
        out, size = torch.empty_like(x), x[0].numel()
        weights = self._gain.data_ptr(), self._shift.data_ptr(), self._period, self._eps, silu

        def run(first: int, count: int) -> None:
            self._kernel.norm_items(x[first:].data_ptr(), out[first:].data_ptr(), count, size, *weights)

        _in_shares(run, len(x))
        return out


class KernelMask:
    """tanh(linear(GELU(convolution of 3 x 3))) on x [B, F, T, 16] in bfloat16: masks [B, F, T, 16] in float32.

    wide: [64, 16, 3, 3], over F and T, and its bias [64]; narrow: [16, 64, 1, 1] and [16]. Copied, in bfloat16.
    """

    def __init__(
        self, wide: Tensor, wide_bias: Tensor, narrow: Tensor, narrow_bias: Tensor, kernel: LstmKernel
    ) -> None:
        self._kernel = kernel
        rows = wide.detach().permute(2, 3, 1, 0).flatten(1, 2)  # over F, inputs of three frames, outputs
        tiles = F.pad(rows, (0, 0, 0, 16)).view(3, 2, 16, 2, 2, 2, 16)
        # [over F, block of inputs, pair of inputs, input of the pair, half of outputs, tile, output]
        self._wide = tiles.permute(4, 0, 1, 5, 2, 6, 3).contiguous(), wide_bias.detach().float()
        linear = F.pad(narrow.detach().flatten(1), (0, 0, 0, 16))
        self._narrow = _tiles(linear), F.pad(narrow_bias.detach().float(), (0, 16))

    @staticmethod
    def takes(wide: Tensor, narrow: Tensor) -> bool:
        """Whether these weights have the shapes of SCNet's masks."""
        return wide.shape == (64, 16, 3, 3) and narrow.shape == (16, 64, 1, 1)

    def __call__(self, x: Tensor) -> Tensor:
        x = x.contiguous()
        _, rows, T, _ = x.shape
        out = torch.empty_like(x, dtype=torch.float32)
        weights = [tensor.data_ptr() for tensor in (*self._wide, *self._narrow)]
        for item, to in zip(x, out, strict=True):
            pointers = item.data_ptr(), to.data_ptr()

            def run(first: int, count: int, pointers: tuple[int, int] = pointers) -> None:
                ring = torch.zeros(3, -(-T // 32) * 32 + 4, 16, dtype=torch.bfloat16)
                self._kernel.mask_rows(*pointers, *weights, ring.data_ptr(), rows, T, first, count)

            _in_shares(run, rows)
        return out


def _tiles(weight: Tensor) -> Tensor:
    """A matrix [N, K] in the order of `multiply`: tiles [N / 32][K / 32][2][16][16][2]."""
    N, K = weight.shape
    return weight.view(N // 32, 2, 16, K // 32, 16, 2).permute(0, 3, 1, 4, 2, 5).contiguous()


def kernel_glu(x: Tensor, kernel: LstmKernel) -> Tensor:
    """`F.glu` of x [..., 2 C] in bfloat16 along its last axis: [..., C]."""
    rows = x.contiguous().view(-1, x.shape[-1])
    C = x.shape[-1] // 2
    out = rows.new_empty(len(rows), C)

    def run(first: int, count: int) -> None:
        kernel.glu_rows(rows[first:].data_ptr(), out[first:].data_ptr(), count, C)

    _in_shares(run, len(rows))
    return out.view(*x.shape[:-1], C)


def _in_shares(run: Callable[[int, int], None], length: int) -> None:
    """Runs (first, count) on a share of the length for each thread."""
    share = -(-length // torch.get_num_threads()) or 1
    run_each(lambda first: run(first, min(share, length - first)), range(0, length, share))


def _packed(lstm: nn.LSTM, direction: str) -> tuple[Tensor, Tensor]:
    """A direction's weights and biases in the order of `lstm_bf16`."""
    H, K = lstm.hidden_size, lstm.input_size + lstm.hidden_size
    of_input, of_state = (getattr(lstm, f"weight_{kind}_l0{direction}").detach() for kind in ("ih", "hh"))
    biases = [getattr(lstm, f"bias_{kind}_l0{direction}").detach().float() for kind in ("ih", "hh")]
    tiles = torch.cat([of_input, of_state], dim=1).view(2, 2, H // 16, 16, K // 32, 16, 2)
    # [pair of gates, gate, block of units, unit, block of inputs, pair of inputs, input of the pair]
    weights = tiles.permute(2, 0, 4, 1, 5, 3, 6).contiguous()
    return weights, (biases[0] + biases[1]).view(4, H // 16, 16).transpose(0, 1).contiguous()
