"""`two-axis`: two places of a song under one chain belong together; that song under another chain does not.

After the loss of two axes in the public code of the published method (its `TwoAxisInfoNCELoss`): along the one axis,
time, a mix stays the same; along the other, variants of the mix, it changes. There a batch has some songs, three
variants of each and two places in each variant. Here an item's three clips are two places in one variant and one in
another. Unlike under `same-song`, positives are processed too.
"""

import math

from torch import Tensor

from mixstyle.pipeline.encoder.losses import InfoNCE, two_axis_info_nce
from mixstyle.pipeline.encoder.objectives.base import ChainDraw, Chains, Objective


class TwoAxis(Objective):
    """Anchor and positive are two clips of a song under one chain; the negative is the anchor under another."""

    name = "two-axis"
    positive_from = "own-song"

    def chains(self, draw: ChainDraw) -> Chains:
        shared = draw.fresh()
        return shared, shared, draw.fresh()

    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
        return two_axis_info_nce(anchor, positive, negative, temperature)

    def chance_loss(self, batch: int) -> float:
        return math.log(3 * batch - 1)  # all clips of the batch but the anchor itself


OBJECTIVE = TwoAxis()
