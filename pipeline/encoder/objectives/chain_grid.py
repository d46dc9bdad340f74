"""`chain-grid`: clips of one group of a bank belong together, all others of the batch do not.

A bank's groups are an effect chain on clips of several songs, or a song's own mix on several of its clips; the same
clips are mixed with several chains in a batch, so that each anchor's own music, mixed differently, is among its
negatives.
"""

import math

from torch import Tensor

from mixstyle.pipeline.encoder.losses import InfoNCE, supervised_contrastive
from mixstyle.pipeline.encoder.objectives.base import GridObjective


class ChainGrid(GridObjective):
    """Every clip is an anchor; its positives are the other clips of its group."""

    name = "chain-grid"

    def loss(self, embeddings: Tensor, groups: Tensor, contents: Tensor, temperature: float) -> InfoNCE:
        return supervised_contrastive(embeddings, groups, contents, temperature)

    def chance_loss(self, groups: int, clips: int) -> float:
        return math.log(groups * clips - 1)  # all clips of the batch but the anchor itself


OBJECTIVE = ChainGrid()
