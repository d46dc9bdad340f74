"""The rearranged forward pass against the module that trains, on networks whose every weight is random."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mixstyle.pipeline.separation import scnet_inference
from mixstyle.pipeline.separation.scnet import Form, SCNet, SCNetConfig
from mixstyle.pipeline.separation.scnet_inference import InferenceSCNet

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


def snr_db(wanted: Tensor, got: Tensor) -> float:
    wanted, got = wanted.double(), got.double()
    return float(10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()))


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


@pytest.mark.parametrize(("dtype", "least_db"), [(torch.bfloat16, 25.0), (torch.float16, 40.0)])
@pytest.mark.parametrize("form", ["plain", "masked"])
@torch.inference_mode()
def test_reduced_precision_stays_near(form: Form, dtype: torch.dtype, least_db: float) -> None:
    """These networks are far rougher than trained ones, which benchmarks/separation.py measures on music."""
    network, x = random_network(form, {}), mixtures(1)
    got = InferenceSCNet(network, dtype)(x)
    assert got.dtype == torch.float32
    assert least_db < snr_db(network(x), got) < 90  # dB; more would mean that nothing was reduced


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
