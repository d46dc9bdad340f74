"""The kernel of residual LSTMs against `nn.LSTM`, `nn.Linear` and a layer norm in float64."""

import math
from pathlib import Path

import pytest
import torch
from helpers.small_separator import song
from helpers.snr import snr_db
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.cache.storage.compiled import NotCompiledError, c_compiler, compiled
from mixstyle.pipeline.separation.architectures.scnet_inference import InferenceSCNet
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, form_of
from mixstyle.pipeline.separation.kernels import lstm as module
from mixstyle.pipeline.separation.kernels.lstm import (
    VARIANTS,
    KernelMask,
    KernelNorm,
    LstmKernel,
    ResidualLstm,
    kernel_glu,
)
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped
from mixstyle.stages.separate import lstm_kernels

EPS = 1e-5


@pytest.fixture(scope="module", params=VARIANTS, ids=lambda variant: variant.name)
def kernel(request: pytest.FixtureRequest) -> LstmKernel:
    if not lstm_kernels.suits(request.param, Path("/proc/cpuinfo")) or c_compiler() is None:
        pytest.skip("not a processor for it, or no C compiler")
    found = lstm_kernels.lstm_kernel(request.param.name)
    assert found is not None
    return found


def layers(C: int, H: int, scale: float = 1.0) -> tuple[nn.LSTM, nn.Linear]:
    """Random layers whose weights are bfloat16, states neither near 0 nor saturated unless scaled."""
    torch.manual_seed(0)
    lstm, linear = nn.LSTM(C, H, bidirectional=True), nn.Linear(2 * H, C)
    for weight in lstm.parameters():
        nn.init.uniform_(weight, -scale * 2 / math.sqrt(H), scale * 2 / math.sqrt(H))
    return lstm.bfloat16(), linear.bfloat16()


def rows(*shape: int, seed: int = 1) -> Tensor:
    """Of a mean and a deviation that have to be taken out."""
    return 3.0 + 0.5 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def oracle(lstm: nn.LSTM, linear: nn.Linear, x: Tensor, over_time: bool, rounded: bool = False) -> Tensor:
    """What the layer adds to x [B, F, T, C], in float64. rounded: the LSTM's input to bfloat16."""
    exact = nn.LSTM(lstm.input_size, lstm.hidden_size, bidirectional=True).double()
    exact.load_state_dict({name: weight.double() for name, weight in lstm.state_dict().items()})
    added = []
    for item in x.double():
        standardised = F.layer_norm(item, item.shape, eps=EPS)
        if rounded:
            standardised = standardised.bfloat16().double()
        steps = standardised.transpose(0, 1) if over_time else standardised
        out = F.linear(exact(steps)[0], linear.weight.double(), linear.bias.double())
        added.append(out.transpose(0, 1) if over_time else out)
    return torch.stack(added)


def added(kernel: LstmKernel, lstm: nn.LSTM, linear: nn.Linear, x: Tensor, over_time: bool) -> Tensor:
    return ResidualLstm(lstm, linear, EPS, kernel).added_to(x.clone(), over_time=over_time) - x


SHAPES = [  # B, F, T, C, H: every remainder of 16 and 32 items, one step, sizes that differ
    (1, 1, 1, 32, 32),
    (1, 7, 16, 32, 64),
    (2, 17, 31, 64, 32),
    (1, 33, 9, 128, 128),
    (3, 5, 70, 64, 64),
]


@pytest.mark.parametrize("over_time", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_equals_layers_in_float64(kernel: LstmKernel, shape: tuple[int, ...], over_time: bool) -> None:
    *sizes, H = shape
    lstm, linear = layers(sizes[-1], H)
    x = rows(*sizes) if math.prod(sizes[:3]) > 1 else torch.tensor([1.0, 4.0] * 16).view(1, 1, 1, 32)
    # inputs and states are rounded to 8 bits, by 2^-8 / sqrt(3) in the mean square: 53 dB each; a recurrence adds some
    assert snr_db(oracle(lstm, linear, x, over_time), added(kernel, lstm, linear, x, over_time)) > 46


def test_saturated_gates_stay_finite_and_right(kernel: LstmKernel) -> None:
    """Input weights of 60 make gates of some hundreds, where 2^x alone would overflow."""
    lstm, linear = layers(32, 32)
    with torch.no_grad():
        for name, weight in lstm.named_parameters():
            if "weight_ih" in name:
                weight.mul_(170)
    x = rows(1, 6, 20, 32)
    found = added(kernel, lstm, linear, x, False)
    assert torch.isfinite(found).all()
    assert snr_db(oracle(lstm, linear, x, False, rounded=True), found) > 46  # dB: states are rounded, as above


def test_values_that_are_not_finite_are_not_hidden(kernel: LstmKernel) -> None:
    lstm, linear = layers(32, 32)
    x = rows(1, 4, 5, 32)
    x[0, 2, 3, 7] = math.nan
    assert not torch.isfinite(added(kernel, lstm, linear, x, True)).any()  # the mean is NaN, and so is everything


def test_bits_depend_on_neither_threads_nor_runs_nor_items_together(
    kernel: LstmKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lstm, linear = layers(64, 64)
    layer, x = ResidualLstm(lstm, linear, EPS, kernel), rows(1, 9, 77, 64)
    before = torch.get_num_threads()
    first = layer.added_to(x.clone(), over_time=False)
    units, norm = rows(7, 1, 10, 32).bfloat16(), KernelNorm(nn.GroupNorm(1, 32).bfloat16(), kernel)
    gated, standardised = kernel_glu(units, kernel), norm(units)
    try:
        torch.set_num_threads(3)
        assert torch.equal(kernel_glu(units, kernel), gated)
        assert torch.equal(norm(units), standardised)
        assert torch.equal(layer.added_to(x.clone(), over_time=False), first)
        monkeypatch.setattr(module, "_CACHED_BYTES", 0)  # all items in one pass over the weights, 13 in its last part
        assert torch.equal(layer.added_to(x.clone(), over_time=False), first)
    finally:
        torch.set_num_threads(before)


def test_an_item_does_not_depend_on_its_batch(kernel: LstmKernel) -> None:
    layer, x = ResidualLstm(*layers(32, 32), EPS, kernel), rows(3, 6, 20, 32)
    together = layer.added_to(x.clone(), over_time=True)
    for i in range(3):
        assert torch.equal(layer.added_to(x[i : i + 1].clone(), over_time=True)[0], together[i])


@pytest.mark.parametrize("channels", [4, 12, 16, 40])
@torch.inference_mode()
def test_gates_and_norms_equal_torchs_in_float64(kernel: LstmKernel, channels: int) -> None:
    """Rows of sizes that are no multiple of 16, among them."""
    x = rows(5, 1, 37 * 2, channels).bfloat16()
    gated = kernel_glu(x, kernel)
    # the result is rounded to 8 bits, by 2^-9 of its binade at most, evenly spread: 55.6 dB below it
    assert snr_db(F.glu(x.double(), dim=-1), gated) > 54
    norm = nn.GroupNorm(1, channels)
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    norm.bfloat16()
    on_kernel, exact = KernelNorm(norm, kernel), nn.GroupNorm(1, channels).double()
    exact.load_state_dict({name: value.double() for name, value in norm.state_dict().items()})
    wanted = exact(x.double().permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert snr_db(wanted, on_kernel(x)) > 54
    assert snr_db(F.silu(wanted), on_kernel(x, silu=True)) > 54


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 31), (1, 3, 33), (1, 2, 100)])
@torch.inference_mode()
def test_masks_equal_torchs_in_float64(kernel: LstmKernel, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    wide, narrow = nn.Conv2d(16, 64, 3, padding=1).bfloat16(), nn.Conv2d(64, 16, 1).bfloat16()
    nn.init.uniform_(wide.weight, -0.2, 0.2)
    nn.init.uniform_(narrow.weight, -0.4, 0.4)
    x = torch.randn(*shape, 16, generator=torch.Generator().manual_seed(1)).bfloat16()
    assert wide.bias is not None
    assert narrow.bias is not None
    mask = KernelMask(wide.weight, wide.bias, narrow.weight, narrow.bias, kernel)
    found = mask(x)
    wanted = x.double().permute(0, 3, 1, 2)
    wanted = narrow.double()(F.gelu(wide.double()(wanted))).tanh().permute(0, 2, 3, 1)
    assert found.dtype == torch.float32
    # the 64 channels are rounded to 8 bits, by 55.6 dB; the rest is float32
    assert snr_db(wanted, found) > 53
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(mask(x), found)
    finally:
        torch.set_num_threads(before)


def test_a_norm_of_equal_values_is_its_shift(kernel: LstmKernel) -> None:
    norm = nn.GroupNorm(1, 16)
    nn.init.uniform_(norm.bias, -0.5, 0.5)
    norm = norm.bfloat16().requires_grad_(False)
    found = KernelNorm(norm, kernel)(torch.full((1, 1, 6, 16), 7.0).bfloat16())
    assert torch.equal(found, norm.bias.expand(1, 1, 6, 16))


def test_takes_what_it_can_compute(kernel: LstmKernel) -> None:
    lstm, linear = layers(32, 64)
    assert kernel.takes(lstm, linear)
    assert not kernel.takes(lstm.float(), linear.float())
    assert not kernel.takes(*layers(16, 32))
    assert not kernel.takes(nn.LSTM(32, 32).bfloat16(), nn.Linear(32, 32).bfloat16())
    assert not kernel.takes(nn.GRU(32, 32, bidirectional=True).bfloat16(), linear)


@torch.inference_mode()
def test_the_shipped_separator_is_as_near_to_float32_as_with_torch(kernel: LstmKernel) -> None:
    state = read_state_dict(shipped(SEPARATOR))
    network = SCNet(read_separator_config(shipped(SEPARATOR_CONFIG)).model, form_of(state)).eval()
    network.load_state_dict(state)
    music = torch.from_numpy(song(0, 1.0).T.copy())[None]
    exact, reduced = network(music), InferenceSCNet(network, torch.bfloat16)
    of_torch = reduced(music)
    assert reduced.use_lstm_kernel(kernel)
    of_kernel = reduced(music)
    assert snr_db(exact, of_kernel) > max(40.0, snr_db(exact, of_torch) - 1)  # dB
    assert not torch.equal(of_kernel, of_torch)
    assert not reduced.use_lstm_kernel(None)
    assert torch.equal(reduced(music), of_torch)


def test_a_library_of_another_version_is_refused(kernel: LstmKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    with pytest.raises(NotCompiledError, match="version"):
        compiled(module.SOURCE, kernel.variant.flags, lambda library: LstmKernel(library, kernel.variant))
