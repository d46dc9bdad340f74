"""Heads that are trained beside the contrastive loss: from embeddings to what was done to a clip.

They make the embedding hold what the effects' parameters were, and not only that something was done. `ChainHead` looks
at two embeddings of one clip, mixed in two ways; `GroupHead` at one embedding of a bank's clip, whose chain is known.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.chains import STEM_LUFS
from mixstyle.pipeline.mixing.mix_chain import CHAIN_PARAMETERS, MixChain, chain_vector

_ON = np.array([name.endswith("_on") for name in CHAIN_PARAMETERS])
GROUP_PARAMETERS = len(STEMS) * (len(CHAIN_PARAMETERS) + 1)
"""Length of `group_parameters`."""
VALUE_WEIGHT = 3.0
"""Of the squared errors of values, beside the cross-entropy of which effects were applied: an uninformed head pays
0.69 nat for the one, and 1/3 times this for the other, whose values are even between -1 and 1."""


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


def group_parameters(chain: MixChain | None) -> np.ndarray:
    """What was done to a group's clips, as numbers [P] float32, stem by stem: for each effect 1 or 0 and its parameters
    between -1 and 1 (NaN where it was not applied), then the loudness the stem was brought to (NaN where to none).

    All NaN without a chain: of a song's own mix nobody knows.
    """
    if chain is None:
        return np.full(GROUP_PARAMETERS, np.nan, np.float32)
    middle, reach = sum(STEM_LUFS) / 2, (STEM_LUFS[1] - STEM_LUFS[0]) / 2
    parts = []
    for stem, effects in enumerate(chain.stems):
        vector = chain_vector(effects)
        on = {f"{effect.name}_" for effect in effects}
        absent = [not any(name.startswith(effect) for effect in on) for name in CHAIN_PARAMETERS]
        vector[np.array(absent) & ~_ON] = np.nan
        level = (chain.stem_lufs[stem] - middle) / reach if chain.stem_lufs else np.nan
        parts.append(np.append(vector, np.float32(level)))
    return np.concatenate(parts).astype(np.float32)


class GroupHead(nn.Module):
    """Embeddings of a bank's clips to the parameters of their groups.

    >>> GroupHead(8)(torch.zeros(2, 8)).shape == (2, GROUP_PARAMETERS)
    True
    """

    def __init__(self, embedding: int, hidden: int = 256) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(embedding, hidden), nn.ReLU(), nn.Linear(hidden, GROUP_PARAMETERS))

    def forward(self, embeddings: Tensor) -> Tensor:
        """[N, E], brought to unit length times sqrt(E), to [N, P]: logits where an effect is on or off, else values."""
        unit = F.normalize(embeddings.float(), dim=-1)
        return self.layers(unit * unit.shape[-1] ** 0.5)


def group_loss(predicted: Tensor, parameters: Tensor) -> Tensor:
    """Binary cross-entropy of which effects were applied plus VALUE_WEIGHT times the mean squared error of values [].

    parameters: [N, P] of `group_parameters`; where they are NaN nothing is asked. 0 where nothing is asked at all.
    """
    on = torch.from_numpy(np.tile(np.append(_ON, False), len(STEMS))).to(predicted.device)
    told = parameters.isfinite()
    if not told.any():
        return predicted.sum() * 0.0
    predicted, values = predicted.float(), parameters.nan_to_num()
    which, amounts = told & on, told & ~on
    loss = F.binary_cross_entropy_with_logits(predicted[which], values[which])
    return loss + VALUE_WEIGHT * F.mse_loss(predicted[amounts], values[amounts]) if amounts.any() else loss
