"""Several processes that train one network: what they exchange, and batch statistics over all of them.

Without torch's process group there is one rank, and nothing here communicates.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

_statistics_group: Any = None


def world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def join_ranks(backend: str) -> None:
    """Joins the process group that torchrun's environment variables name. Raises RuntimeError where that fails."""
    global _statistics_group
    dist.init_process_group(backend)
    # of their own: batch statistics are exchanged while gradients are, in an order that need not be the same
    _statistics_group = dist.new_group()


def leave_ranks() -> None:
    """Ends the process group."""
    global _statistics_group
    _statistics_group = None
    dist.destroy_process_group()


def gather_rows(rows: Tensor) -> Tensor:
    """Rows [n, ...] of every rank, rank after rank: [ranks n, ...]; every rank has as many. Carries no gradient."""
    _, ranks = world()
    if ranks == 1:
        return rows.detach()
    found = [torch.empty_like(rows) for _ in range(ranks)]
    dist.all_gather(found, rows.detach().contiguous())
    return torch.cat(found)


def gather_objects(thing: Any) -> list[Any]:
    """What each rank gives, in their order."""
    _, ranks = world()
    if ranks == 1:
        return [thing]
    found: list[Any] = [None] * ranks
    dist.all_gather_object(found, thing)
    return found


def any_rank(flag: bool, device: torch.device) -> bool:
    """Whether the flag is set on any rank."""
    if world()[1] == 1:
        return flag
    told = torch.tensor(float(flag), device=device)
    dist.all_reduce(told, dist.ReduceOp.MAX)
    return bool(told.item())


def wait_for_ranks() -> None:
    """Returns when every rank has come here."""
    if world()[1] > 1:
        dist.barrier()


class _SumOverRanks(torch.autograd.Function):
    """Sum over the ranks; the gradient of every rank's result comes back to each rank's part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        total = part.clone()
        dist.all_reduce(total, group=_statistics_group)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        grad = grads[0].clone()
        dist.all_reduce(grad, group=_statistics_group)
        return grad


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
        mean = _SumOverRanks.apply(x.sum((0, 2, 3))) / count
        centered = x - mean[None, :, None, None]
        variance = _SumOverRanks.apply(centered.square().sum((0, 2, 3))) / count
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


def by_role(gathered: Tensor, roles: int) -> Tensor:
    """Rows [ranks roles b, ...] that came rank by rank, put role by role: [roles ranks b, ...]."""
    ranks = world()[1]
    return gathered.unflatten(0, (ranks, roles, -1)).transpose(0, 1).flatten(0, 2)


def own_rows(rows: Tensor, roles: int) -> Tensor:
    """Of rows [roles ranks b, ...] those of this rank: [roles b, ...]."""
    rank, ranks = world()
    return rows.unflatten(0, (roles, ranks, -1))[:, rank].flatten(0, 1)


def items_of_rank(batch_size: int) -> range:
    """Which items of a batch this rank makes. Raises ValueError where they cannot be shared out evenly."""
    rank, ranks = world()
    if batch_size % ranks:
        raise ValueError(f"a batch of {batch_size} cannot be shared evenly by {ranks} processes")
    each = batch_size // ranks
    return range(rank * each, (rank + 1) * each)
