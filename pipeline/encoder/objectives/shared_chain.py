"""`shared-chain`: clips of two songs under the same chain belong together.

As for the effects encoder of Koo et al.: "Music Mixing Style Transfer: A Contrastive Learning Approach to Disentangle
Audio Effects", ICASSP 2023.
"""

import math

from torch import Tensor

from mixstyle.pipeline.encoder.losses import InfoNCE, info_nce
from mixstyle.pipeline.encoder.objectives.base import ChainDraw, Chains, Objective


class SharedChain(Objective):
    """The positive is a clip of another song with the anchor's chain, the negative the anchor's clip with another."""

    name = "shared-chain"
    positive_from = "other-song"

    def chains(self, draw: ChainDraw) -> Chains:
        shared = draw.fresh()
        return shared, shared, draw.fresh()

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
        return info_nce(anchor, positive, negative, temperature)

    def chance_loss(self, batch: int) -> float:
        return math.log(2 * batch)  # the positives and negatives of all items


OBJECTIVE = SharedChain()
