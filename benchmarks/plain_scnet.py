"""The plain way to separate with SCNet, to measure against: one track, one chunk after the other, the published layers.

It does what Music-Source-Separation-Training's inference does with a model's YAML of batch_size 1, without its files:
the whole track is padded by reflection, each chunk goes through the network alone, all torch threads work on it.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.separation.architectures.scnet_network import Fusion, SCNet


class _PublishedFusion(nn.Module):
    """Fusion as it was published: the sum is repeated, and the copy is convolved too."""

    def __init__(self, fusion: Fusion) -> None:
        super().__init__()
        self.conv = fusion.conv

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return F.glu(self.conv((x + skip).repeat(1, 2, 1, 1)), dim=1)


def as_published(network: SCNet) -> SCNet:
    """The network with its fusion layers as published; changed in place."""
    for block in network.decoder:
        fusion = block[0] if isinstance(block, nn.Sequential) else None
        if isinstance(block, nn.Sequential) and isinstance(fusion, Fusion):
            block[0] = _PublishedFusion(fusion)
    return network.eval()


@torch.inference_mode()
def separate_plainly(network: nn.Module, mixture: Tensor, chunk: int, num_overlap: int, autocast: bool) -> Tensor:
    """A mixture [2, T] -> [S, 2, T], on the device of the mixture."""
    length, step, fade = mixture.shape[1], chunk // num_overlap, chunk // 10
    border = chunk - step
    padded = length > 2 * border and border > 0
    if padded:
        mixture = F.pad(mixture, (border, border), mode="reflect")
    window = torch.ones(chunk, device=mixture.device)
    window[:fade] = torch.linspace(0, 1, fade)
    window[-fade:] = torch.linspace(1, 0, fade)
    total, total_weight = None, torch.zeros(mixture.shape[1], device=mixture.device)
    for start in range(0, mixture.shape[1], step):
        part = mixture[:, start : start + chunk]
        size = part.shape[1]
        if size < chunk:
            mode = "reflect" if size > chunk // 2 else "constant"
            part = F.pad(part, (0, chunk - size), mode=mode)
        with torch.autocast(mixture.device.type, enabled=autocast):
            stems = network(part[None])[0].float()
        weight = window.clone()
        if start == 0:
            weight[:fade] = 1
        elif start + step >= mixture.shape[1]:
            weight[-fade:] = 1
        if total is None:
            total = torch.zeros(len(stems), 2, mixture.shape[1], device=mixture.device)
        total[..., start : start + size] += stems[..., :size] * weight[:size]
        total_weight[start : start + size] += weight[:size]
    if total is None:
        raise ValueError("nothing to separate")
    stems = torch.nan_to_num(total / total_weight)
    return stems[..., border:-border] if padded else stems


def count_flops(network: nn.Module, frames: int) -> float:
    """Multiplications and additions of matrix kind for [1, 2, frames]: convolutions, linear layers, LSTMs."""
    flops = 0.0

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor | tuple[Tensor, ...]) -> None:
        nonlocal flops
        out = output if isinstance(output, Tensor) else output[0]
        if isinstance(module, nn.LSTM):
            directions = 2 if module.bidirectional else 1
            rows = inputs[0].numel() // module.input_size
            for layer in range(module.num_layers):
                size = module.input_size if layer == 0 else directions * module.hidden_size
                flops += 2 * rows * directions * 4 * module.hidden_size * (size + module.hidden_size)
        elif isinstance(module, nn.Linear):
            flops += 2 * out.numel() * module.in_features
        elif isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
            flops += 2 * inputs[0].numel() * module.weight[0].numel()
        elif isinstance(module, nn.Conv1d | nn.Conv2d):
            flops += 2 * out.numel() * module.weight[0].numel()

    kinds = nn.LSTM | nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d
    handles = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, kinds)]
    with torch.inference_mode():
        network(torch.zeros(1, 2, frames))
    for handle in handles:
        handle.remove()
    return flops
