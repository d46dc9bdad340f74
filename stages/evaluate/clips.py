"""Clips on their way into the rows of an evaluation."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.evaluate.tasks.variants import Way


@dataclass(frozen=True)
class Clips:
    """Clips to embed; descriptors [B, D] are computed once for all rows that want them. way: what is between their
    stems and the embedding."""

    stems: Tensor
    given: Tensor | None = None
    way: Way = "as-is"

    @cached_property
    def mixtures(self) -> Tensor:
        return self.stems.sum(1)

    @cached_property
    def descriptors(self) -> Tensor:
        return self.given if self.given is not None else describe(self.stems)

    def to(self, device: torch.device) -> "Clips":
        return Clips(self.stems.to(device), None if self.given is None else self.given.to(device), self.way)


class Row(Protocol):
    """A row of an evaluation."""

    @property
    def name(self) -> str: ...

    def of(self, clips: Clips) -> Tensor:
        """Embeddings [B, E] of clips."""
        ...
