"""`chain-ring`: as `shared-chain`, but the negative has the chain of the batch's next item.

So each chain is on three clips of three songs, each anchor's clip has two chains, and every clip is an anchor.
"""

import math

from torch import Tensor

from mixstyle.pipeline.encoder.losses import InfoNCE, chain_info_nce
from mixstyle.pipeline.encoder.objectives.base import ChainDraw, Chains, Objective


class ChainRing(Objective):
    """Anchor and positive have the item's chain, the negative that of the next item; the last one's is the first's."""

    name = "chain-ring"
    positive_from = "other-song"

    def chains(self, draw: ChainDraw) -> Chains:
        shared = draw.of_item(draw.item)
        return shared, shared, draw.of_item((draw.item + 1) % draw.batch)

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
        return chain_info_nce(anchor, positive, negative, temperature)

    def chance_loss(self, batch: int) -> float:
        return math.log(3 * batch - 1)  # all clips of the batch but the anchor itself


OBJECTIVE = ChainRing()
