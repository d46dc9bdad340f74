"""How far a result is from what it should be."""

import torch
from torch import Tensor


def snr_db(wanted: Tensor, got: Tensor) -> float:
    """The power of `wanted` over that of the difference, in dB."""
    wanted, got = wanted.double(), got.double()
    return float(10 * torch.log10(wanted.square().sum() / (wanted - got).square().sum()))
