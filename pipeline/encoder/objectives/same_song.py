"""`same-song`, the published objective: a song's clips belong together, and the remixed anchor does not."""

import math

from torch import Tensor

from mixstyle.pipeline.encoder.losses import InfoNCE, info_nce
from mixstyle.pipeline.encoder.objectives.base import UNTOUCHED, ChainDraw, Chains, Objective


class SameSong(Objective):
    """Anchor and positive are two clips of a song as they are; the negative is the anchor under a chain."""

    name = "same-song"
    positive_from = "own-song"

    def chains(self, draw: ChainDraw) -> Chains:
        return UNTOUCHED, UNTOUCHED, draw.fresh()

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
        return info_nce(anchor, positive, negative, temperature)

    def chance_loss(self, batch: int) -> float:
        return math.log(2 * batch)  # the positives and negatives of all items


OBJECTIVE = SameSong()
