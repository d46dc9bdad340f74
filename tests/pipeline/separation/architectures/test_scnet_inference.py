"""The rearranged forward pass against the module that trains, on networks whose every weight is random."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from helpers.paths import DATA
from helpers.snr import snr_db
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.separation.architectures import scnet_inference
from mixstyle.pipeline.separation.architectures.scnet_inference import InferenceSCNet, _GatedConv
from mixstyle.pipeline.separation.architectures.scnet_network import Form, SCNet, SCNetConfig, form_of
from mixstyle.pipeline.separation.architectures.scnet_transforms import with_real_ends
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.pipeline.synth.song import render_song
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped

SMALL: dict[str, Any] = {
    "dims": (4, 8, 16),
    "nfft": 512,
    "hop_size": 128,
    "win_size": 512,
    "num_dplayer": 2,
}
WIDE_KERNELS = {"band_stride": (1, 2, 16), "band_kernel": (5, 4, 16)}  # neither 3 at stride 1 nor equal to the stride
XL_BANDS = {"band_SR": (0.230, 0.370, 0.400), "band_stride": (1, 4, 4), "band_kernel": (3, 4, 4)}
CASES = {
    "plain": ("plain", {}),
    "masked": ("masked", {}),
    "plain, short window": ("plain", {"win_size": 400}),
    "plain, not normalised": ("plain", {"normalized": False}),
    "masked, bands as in XL": ("masked", {**XL_BANDS, "conv_depths": (3, 3, 3)}),
    "masked, other kernels": ("masked", WIDE_KERNELS),
    "plain, hop no divisor": ("plain", {"hop_size": 100}),
    "plain, wide LSTMs": ("plain", {"expand": 2, "num_dplayer": 4}),
    "plain, 32 channels": ("plain", {"dims": (4, 32, 64), "nfft": 256, "hop_size": 64, "win_size": 256}),
}


def random_network(form: Form, changes: dict[str, Any]) -> SCNet:
    """Norms too get random weights, and the dual path weighs as much in the output as in a trained network."""
    torch.manual_seed(0)
    network = SCNet(SCNetConfig(**{**SMALL, **changes}), form)
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.LSTM):
            for weight in module.parameters():
                nn.init.uniform_(weight, -0.5, 0.5)
        elif isinstance(module, nn.Linear):
            nn.init.uniform_(module.weight, -1.0, 1.0)
    return network.eval()


def mixtures(batch: int = 2, frames: int = 12_345) -> Tensor:
    return torch.randn(batch, 2, frames, generator=torch.Generator().manual_seed(1)) * 0.2


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_equals_the_module_that_trains(case: str) -> None:
    form, changes = CASES[case]
    network, x = random_network(form, changes), mixtures()
    wanted, got = network(x), InferenceSCNet(network)(x)
    assert got.shape == wanted.shape
    # rounding of float32 through the network's depth: about -120 dB of the output
    assert snr_db(wanted, got) > 100


@torch.inference_mode()
def test_the_dual_path_counts_in_these_networks() -> None:
    """Else the test above would not see a fault in it."""
    network, x = random_network("plain", {}), mixtures()
    before = network(x)
    for layer in network.separation_net.dp_modules:
        for name, weight in layer.named_parameters():
            if "lstm" in name:
                weight.mul_(0.9)
    assert snr_db(before, network(x)) < 30


@pytest.mark.parametrize("form", ["plain", "masked"])
@torch.inference_mode()
def test_an_item_does_not_depend_on_its_batch(form: Form) -> None:
    network, x = InferenceSCNet(random_network(form, {})), mixtures(3)
    together = network(x)
    for i in range(3):
        assert snr_db(together[i], network(x[i : i + 1])[0]) > 100  # dB: other blocks of the same sums


TRAINED = {
    "masked": (shipped(SEPARATOR_CONFIG), shipped(SEPARATOR)),
    "plain": (DATA / "scnet_plain_b.yaml", DATA / "scnet_plain_b.safetensors"),
}
"""The shipped separator, and a reference checkpoint of the other form."""


@pytest.fixture(scope="module")
def music() -> Tensor:
    """A second of a rendered song, [1, 2, T]."""
    return torch.from_numpy(render_song(0, 8.0).stems.sum(0))[None, :, 3 * 44_100 : 4 * 44_100].float()


@contextmanager
def kernels_for(dtype: torch.dtype) -> Iterator[None]:
    """oneDNN where it can run a bidirectional LSTM in `dtype`, torch's own kernels elsewhere.

    torch asks the processor, which ONEDNN_MAX_CPU_ISA does not change: told to take lesser instructions, oneDNN then
    refuses what torch hands it. On a processor that really lacks them torch takes its own kernels.
    """
    lstm = nn.LSTM(8, 8, bidirectional=True).to(dtype)
    try:
        lstm(torch.zeros(2, 1, 8, dtype=dtype))
        with torch.autocast("cpu", dtype):
            lstm.float()(torch.zeros(2, 1, 8))
        works = True
    except RuntimeError:
        works = False
    with torch.backends.mkldnn.flags(enabled=works):
        yield


def rounding_snr_db(network: SCNet, bits: int) -> float:
    """The signal-to-noise ratio that a mantissa of so many significant bits leaves, by the network's depth.

    A rounding is off by up to 2^-bits of the value, evenly spread: 2^-bits / sqrt(3) in the mean square at worst. Each
    convolution, LSTM, linear layer and norm rounds its input, its weights and its output; errors add up in power, as
    if all layers lay one after the other.
    """
    layers = sum(isinstance(m, nn.modules.conv._ConvNd | nn.LSTM | nn.Linear | nn.GroupNorm) for m in network.modules())
    return -10 * math.log10(3 * layers * (2.0**-bits) ** 2 / 3)


@pytest.mark.parametrize(("dtype", "bits"), [(torch.bfloat16, 8), (torch.float16, 11)])
@pytest.mark.parametrize("form", TRAINED)
@torch.inference_mode()
def test_reduced_precision_is_as_good_as_its_mantissa(form: str, dtype: torch.dtype, bits: int, music: Tensor) -> None:
    config, checkpoint = TRAINED[form]
    state = read_state_dict(checkpoint)
    network = SCNet(read_separator_config(config).model, form_of(state))
    network.load_state_dict(state)
    network.eval()
    whole = network(music)
    with kernels_for(dtype):
        got = InferenceSCNet(network, dtype)(music)
        with torch.autocast("cpu", dtype):
            autocast_db = snr_db(whole, network(music))
    assert got.dtype == torch.float32
    found_db, bound_db = snr_db(whole, got), rounding_snr_db(network, bits)
    assert found_db > bound_db
    assert found_db > autocast_db - 3  # dB: twice the noise of torch's own choice of what to reduce
    assert found_db < bound_db + 30  # dB: more, the noise of a thousandth of these roundings: nothing was reduced


@torch.inference_mode()
def test_gates_in_two_parts_equal_gates_as_a_whole() -> None:
    """Layers of half precision with 32 to 63 channels convolve values and gates apart, on rough networks too."""
    conv = nn.Conv2d(16, 64, 3, padding=1)
    x = torch.randn(2, 9, 11, 16, generator=torch.Generator().manual_seed(2))
    gated = _GatedConv(conv.weight, conv.bias, torch.bfloat16, (1, 1))
    assert gated.split
    wanted = F.glu(conv(x.permute(0, 3, 1, 2)), dim=1).permute(0, 2, 3, 1)
    # a layer rounds input, weights, output of the convolution, gate and product: 5 times 2^-8 / sqrt(3)
    assert snr_db(wanted, gated(x.bfloat16())) > -10 * math.log10(5 * 2.0**-16 / 3)


@torch.inference_mode()
def test_masks_in_parts_equal_masks_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network, x = InferenceSCNet(random_network("masked", {})), mixtures(1)
    monkeypatch.setattr(scnet_inference, "_MASK_ROWS_BYTES", 10**12)
    whole = network(x)
    monkeypatch.setattr(scnet_inference, "_MASK_ROWS_BYTES", 1)  # the least, 8 frequencies at a time
    assert snr_db(whole, network(x)) > 100


def test_the_trained_network_stays_as_it_is() -> None:
    network = random_network("masked", {})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    InferenceSCNet(network, torch.bfloat16)
    for name, value in network.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name]), name


@torch.inference_mode()
def test_silence_stays_silent() -> None:
    stems = InferenceSCNet(random_network("masked", {}))(torch.zeros(1, 2, 6000))
    assert torch.equal(stems, torch.zeros_like(stems))


@pytest.mark.parametrize("dim", [1, -1])
@pytest.mark.parametrize("bins", [5, 9])
def test_imaginary_parts_at_the_ends_do_not_count(dim: int, bins: int) -> None:
    """Taking them off changes nothing where an inverse FFT of even length ignores them, as it does on CPUs."""
    shape = (3, bins, 2) if dim == 1 else (3, 2, bins)
    spectrum = torch.randn(shape, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
    real = with_real_ends(spectrum.clone(), dim, always=True)
    assert not torch.equal(real, spectrum)
    assert torch.equal(torch.fft.irfft(real, dim=dim), torch.fft.irfft(spectrum, dim=dim))
    assert torch.equal(real.narrow(dim, 1, bins - 2), spectrum.narrow(dim, 1, bins - 2))
    assert torch.equal(with_real_ends(spectrum.clone(), dim), spectrum), "on CPUs nothing is done"
