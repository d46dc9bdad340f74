"""Tells from two embeddings of one clip, mixed in two ways, what was done: a head that is trained beside InfoNCE.

It makes the embedding hold what the effects' parameters were, and not only that something was done.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ChainHead(nn.Module):
    """Embeddings of a clip before and after a change of its mix to the difference of their chains' vectors.

    parameters: length of `mixstyle.pipeline.mixing.mix_chain.mix_chain_vector`.

    >>> ChainHead(8, 5)(torch.zeros(2, 8), torch.zeros(2, 8)).shape
    torch.Size([2, 5])
    """

    def __init__(self, embedding: int, parameters: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * embedding, hidden), nn.ReLU(), nn.Linear(hidden, parameters))

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Embeddings [B, E] each, of any length; they are brought to unit length. Gives [B, parameters]."""
        pair = torch.cat([F.normalize(before.float(), dim=-1), F.normalize(after.float(), dim=-1)], dim=-1)
        return self.layers(pair)


def chain_loss(predicted: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """Mean squared error [] against after - before, the vectors [B, parameters] of what was done to each clip."""
    return F.mse_loss(predicted.float(), after - before)
