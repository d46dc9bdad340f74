"""The interface of an objective, and what one is given to draw chains with."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.encoder.losses import InfoNCE
from mixstyle.pipeline.mixing.mix_chain import MixChain

UNTOUCHED = MixChain(tuple(() for _ in STEMS))
"""What is done to a clip that is left as it is."""
Chains = tuple[MixChain, MixChain, MixChain]
"""What is done to an item's anchor, positive and negative."""


class ChainDraw(Protocol):
    """Draws the chains of one item; equal seeds and places give equal chains, in every process."""

    @property
    def item(self) -> int:
        """The item's place in its batch, from 0."""
        ...

    @property
    def batch(self) -> int:
        """Items in the batch."""
        ...

    def fresh(self) -> MixChain:
        """A chain for this item alone; each call gives another."""
        ...

    def of_item(self, item: int) -> MixChain:
        """The chain that belongs to an item of this batch: the same one, whichever item asks for it."""
        ...


class Objective(ABC):
    """What the encoder is trained for: the clips of an item, their chains, and the loss over a batch.

    An item has three clips: anchor, positive and negative. The negative is always the anchor's own clip with another
    chain.
    """

    name: ClassVar[str]
    """What `train.objective` calls it."""
    positive_from: ClassVar[Literal["own-song", "other-song"]]
    """Whether the positive is another clip of the anchor's song or a clip of another song."""

    @abstractmethod
    def chains(self, draw: ChainDraw) -> Chains:
        """What is done to the item's three clips."""

    @abstractmethod
    def loss(self, anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
        """The loss of embeddings [B, E] each, which need not be normalised."""

    @abstractmethod
    def chance_loss(self, batch: int) -> float:
        """The loss in nats of an encoder that knows nothing: all embeddings of a batch of that many items are equal."""


class GridObjective(ABC):
    """What the encoder is trained for on a bank of `mixstyle remix`: batches are whole blocks of groups.

    A group is several clips that belong together, such as one chain on several songs; nothing is rendered in training.
    """

    name: ClassVar[str]
    """What `train.objective` calls it."""

    @abstractmethod
    def loss(self, embeddings: Tensor, groups: Tensor, contents: Tensor, temperature: float) -> InfoNCE:
        """The loss of embeddings [N, E], which need not be normalised.

        groups: [N], equal numbers belong together. contents: [N], equal numbers are the same music.
        """

    @abstractmethod
    def chance_loss(self, groups: int, clips: int) -> float:
        """The loss in nats of an encoder that knows nothing, with that many groups of that many clips in a batch."""
