"""Several processes that train one network: what they exchange.

Without torch's process group there is one rank, and nothing here communicates.
"""

from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

LONGEST_WAIT = timedelta(days=30)
"""For ranks that wait while one works alone, which may take hours; one that ended is noticed at once."""
_statistics_group: Any = None
_waiting_group: Any = None


def world() -> tuple[int, int]:
    """(rank, number of ranks); (0, 1) outside a process group."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def join_ranks(backend: str, timeout: timedelta | None = None) -> None:
    """Joins the process group that torchrun's environment variables name.

    timeout: for joining, and for each exchange of numbers; torch's own unless given. Raises RuntimeError where joining
    fails.
    """
    global _statistics_group, _waiting_group
    dist.init_process_group(backend, timeout=timeout)
    # of their own: batch statistics are exchanged while gradients are, in an order that need not be the same
    _statistics_group = dist.new_group(timeout=timeout)
    _waiting_group = dist.new_group(backend="gloo", timeout=LONGEST_WAIT)


def leave_ranks() -> None:
    """Ends the process group."""
    global _statistics_group, _waiting_group
    _statistics_group = _waiting_group = None
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
    """Returns when every rank has come here, hours later if need be. Raises RuntimeError where one ended."""
    if world()[1] > 1:
        dist.barrier(group=_waiting_group)


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


def sum_over_ranks(part: Tensor) -> Tensor:
    """The sum of every rank's part, of any shape, with its gradient; exchanged apart from gathered rows."""
    return _SumOverRanks.apply(part)


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
