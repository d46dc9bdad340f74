"""Batch normalisation whose batch is that of all processes together, and several of them computed in one pass."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.encoder.distributed import sum_over_ranks, world


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe, Szegedy 2015) whose batch is that of all ranks together.

    torch's own SyncBatchNorm does the same on GPUs alone. Ranks must bring equally many samples.
    """

    def forward(self, input: Tensor) -> Tensor:
        ranks = world()[1]
        if not self.training or ranks == 1:
            return super().forward(input)
        x = input.float()
        count = ranks * x.numel() // x.shape[1]
        mean = sum_over_ranks(x.sum((0, 2, 3))) / count
        centered = x - mean[None, :, None, None]
        variance = sum_over_ranks(centered.square().sum((0, 2, 3))) / count
        if self.running_mean is not None and self.running_var is not None and self.momentum is not None:
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance * count / (count - 1), self.momentum)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        normal = centered * torch.rsqrt(variance + self.eps)[None, :, None, None]
        if self.affine:
            normal = normal * self.weight[None, :, None, None] + self.bias[None, :, None, None]
        return normal.to(input.dtype)


def batch_norm_side_by_side(x: Tensor, norms: Sequence[BatchNorm2d]) -> Tensor:
    """What the norms, all alike and without scale and shift, give for their channels of x [B, channels of all, ...].

    One pass for all of them; each follows its own channels' statistics, as when it is called itself.
    """
    first = norms[0]
    if first.training and world()[1] > 1:
        return torch.cat([norm(part) for norm, part in zip(norms, x.chunk(len(norms), 1), strict=True)], 1)
    means = torch.cat([_buffer(norm.running_mean) for norm in norms])
    variances = torch.cat([_buffer(norm.running_var) for norm in norms])
    out = F.batch_norm(x, means, variances, None, None, first.training, first.momentum or 0.0, first.eps)
    if first.training:
        for norm, mean, variance in zip(norms, means.chunk(len(norms)), variances.chunk(len(norms)), strict=True):
            _buffer(norm.running_mean).copy_(mean)
            _buffer(norm.running_var).copy_(variance)
            _buffer(norm.num_batches_tracked).add_(1)
    return out


def _buffer(buffer: Tensor | None) -> Tensor:
    if buffer is None:
        raise ValueError("a norm without running statistics cannot be joined with others")
    return buffer
