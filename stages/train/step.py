"""The gradients of one optimiser step: over micro-batches that fit into memory, and over the ranks of a run.

InfoNCE needs the embeddings of the whole batch at once, wherever they were made. So the embeddings are computed,
gathered, the loss is differentiated with respect to them, and each rank carries its share of that gradient back
through its own encoder. With micro-batches the first pass keeps nothing of the network, and a second one with the
same dropout carries the gradient back, one micro-batch after the other (GradCache: Gao, Zhang, Han, Callan: "Scaling
Deep Contrastive Learning Batch Size under Memory Limited Setup", RepL4NLP 2021).
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mixstyle.pipeline.core.stems import CHANNELS
from mixstyle.pipeline.encoder.batch_norm import BatchNorm2d
from mixstyle.pipeline.encoder.chain_head import ChainHead, GroupHead, chain_loss, group_loss
from mixstyle.pipeline.encoder.distributed import by_role, gather_rows, own_rows, world
from mixstyle.pipeline.encoder.encoder import Encoder
from mixstyle.pipeline.encoder.levels import gains_db, levelled, levelled_descriptors
from mixstyle.pipeline.encoder.losses import InfoNCE
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.encoder.objectives.base import GridObjective
from mixstyle.pipeline.encoder.objectives.registry import all_objectives
from mixstyle.pipeline.mixing.mix_chain import mix_chain_vector
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.train.data import ROLES, Batch


@dataclass(frozen=True)
class StepResult:
    """What a step found. embeddings: [3 B, E] of all ranks, anchors, positives, negatives, without gradients; of a
    bank's groups their first and second clips, and the first ones' music in another group."""

    info: InfoNCE
    chain_loss: Tensor | None
    loss: float
    """All that is minimised: InfoNCE's loss and the weighted chain loss."""
    embeddings: Tensor


class Stepper:
    """Computes losses and gradients of batches for an encoder and the head beside it."""

    def __init__(
        self,
        encoder: Encoder,
        mel: StemMel,
        head: ChainHead | GroupHead | None,
        options: TrainSettings,
        device: torch.device,
    ) -> None:
        self.objective = all_objectives()[options.objective]
        self.encoder, self.mel, self.head, self.options, self.device = encoder, mel, head, options, device
        self.autocast = options.precision == "bf16" or (options.precision == "auto" and device.type == "cuda")
        self._network: nn.Module = encoder
        if world()[1] > 1:
            # its buffers are the same on all ranks already: batch statistics are those of all of them
            self._network = DistributedDataParallel(encoder, broadcast_buffers=False)

    def gradients(self, batch: Batch, seed: int) -> StepResult:
        """Sets the gradients of encoder and head. seed: of dropout, which then needs no state to go on exactly.

        A loss that is not finite is returned without gradients.
        """
        rank, ranks = world()
        stems, descriptors = self._inputs(batch)
        roles = len(stems) // len(batch.track_ids)
        parts = [part.to(self.device) for part in micro_batches(len(batch.track_ids), self.options.accumulate, roles)]
        seeds = [((seed * ranks + rank) * len(parts) + i) % 2**63 for i in range(len(parts))]  # torch takes no more
        if len(parts) == 1:
            torch.manual_seed(seeds[0])
            made = [self._embed(stems, descriptors, self._network)]
        else:
            with torch.no_grad(), _norms_at_rest(self.encoder):
                made = [self._seeded(stems[p], descriptors[p], s) for p, s in zip(parts, seeds, strict=True)]
        own = torch.empty_like(torch.cat(made).detach())
        for part, embeddings in zip(parts, made, strict=True):
            own[part] = embeddings.detach()
        leaf = by_role(gather_rows(own), roles).requires_grad_()
        result = self._loss(leaf, batch)
        if not torch.isfinite(torch.tensor(result.loss)):
            return result
        # DistributedDataParallel takes the mean over the ranks, and each has a part of one loss: their sum is wanted
        gradient = own_rows(_gradient_of(leaf), roles) * ranks
        if len(parts) == 1:
            made[0].backward(gradient)
            return result
        for i, (part, s) in enumerate(zip(parts, seeds, strict=True)):
            last = i == len(parts) - 1
            with nullcontext() if last or ranks == 1 else _not_yet(self._network):
                torch.manual_seed(s)
                self._embed(stems[part], descriptors[part], self._network).backward(gradient[part])
        return result

    @torch.no_grad()
    def loss(self, batch: Batch) -> float:
        """InfoNCE's loss of a batch on this rank alone, as the encoder is now."""
        stems, descriptors = self._inputs(batch)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            embeddings = self.encoder(self._mel(stems), descriptors).float()
        return self._contrast(embeddings, _labels(batch, self.device, gathered=False)).loss.item()

    def _inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Stems [N, 4, 2, T] or log-mels [N, 8, n_mels, F], and descriptors [N, D], on the device and levelled."""
        descriptors = batch.descriptors.to(self.device)
        if batch.mels is not None:
            return batch.mels.to(self.device, non_blocking=True), descriptors
        stems = batch.stems.to(self.device, non_blocking=True)
        missing = descriptors.isnan().any(1)
        if missing.any():
            descriptors[missing] = describe(stems[missing])
        target = self.encoder.config.input_lufs
        if target is not None:
            gains = gains_db(descriptors, target)
            stems, descriptors = levelled(stems, gains), levelled_descriptors(descriptors, gains)
        return stems, descriptors

    def _mel(self, given: Tensor) -> Tensor:
        """Log-mels of stems; log-mels that were kept, as they are."""
        return given.float() if given.shape[1] == len(CHANNELS) else self.mel(given)

    def _embed(self, stems: Tensor, descriptors: Tensor, network: nn.Module) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.autocast):
            return network(self._mel(stems), descriptors).float()

    def _seeded(self, stems: Tensor, descriptors: Tensor, seed: int) -> Tensor:
        torch.manual_seed(seed)
        return self._embed(stems, descriptors, self.encoder)

    def _contrast(self, embeddings: Tensor, labels: "tuple[Tensor, Tensor] | None") -> InfoNCE:
        """labels: groups and contents of a bank's clips; None where embeddings are anchors, positives, negatives."""
        temperature = self.options.temperature
        if isinstance(self.objective, GridObjective):
            if labels is None:
                raise ValueError(f"{self.objective.name} needs groups out of a bank")
            return self.objective.loss(embeddings, *labels, temperature)
        anchor, positive, negative = embeddings.chunk(ROLES)
        return self.objective.loss(anchor, positive, negative, temperature)

    def _loss(self, leaf: Tensor, batch: Batch) -> StepResult:
        """The losses of the whole batch, and their gradients with respect to its embeddings and in the head."""
        labels = _labels(batch, self.device, gathered=True)
        info = self._contrast(leaf, labels)
        total, chain = info.loss, None
        if self.head is not None:
            chain = self._chain_loss(leaf, batch, self.head)
            total = total + self.options.chain_weight * chain
        if torch.isfinite(total):
            total.backward()
        embeddings = leaf.detach()
        watched = embeddings if labels is None else _watched(embeddings, *labels)
        return StepResult(info, None if chain is None else chain.detach(), total.item(), watched)

    def _chain_loss(self, leaf: Tensor, batch: Batch, head: "ChainHead | GroupHead") -> Tensor:
        if isinstance(head, GroupHead):
            if batch.parameters is None:
                raise ValueError("a head of groups needs a bank")
            roles = len(batch.parameters) // len(batch.track_ids)
            told = by_role(gather_rows(batch.parameters.to(self.device)), roles)
            return group_loss(head(leaf), told)
        anchor, _, negative = leaf.chunk(ROLES)
        vectors = torch.from_numpy(_vectors(batch)).to(self.device)
        before, after = by_role(gather_rows(vectors), 2).chunk(2)
        return chain_loss(head(anchor, negative), before, after)


def _labels(batch: Batch, device: torch.device, gathered: bool) -> tuple[Tensor, Tensor] | None:
    """Groups and contents [N] of a bank's clips, of all ranks where `gathered`; None for other batches."""
    if batch.groups is None or batch.contents is None:
        return None
    groups, contents = batch.groups.to(device), batch.contents.to(device)
    if not gathered:
        return groups, contents
    roles = len(groups) // len(batch.track_ids)
    return by_role(gather_rows(groups), roles), by_role(gather_rows(contents), roles)


def _watched(embeddings: Tensor, groups: Tensor, contents: Tensor) -> Tensor:
    """[3 B, E]: each group's first clip, its second, and the first one's music in another group, where that is there.

    Rows are slot by slot, so the first B are all first clips.
    """
    count = len(groups.unique())
    first, second = embeddings[:count], embeddings[count : 2 * count]
    same = (contents[:count, None] == contents[:count]) & (groups[:count, None] != groups[:count])
    told = same.any(1)
    other = torch.where(told, same.float().argmax(1), torch.arange(count, device=groups.device))
    return torch.cat([first[told], second[told], first[other][told]])


def micro_batches(items: int, parts: int, roles: int = ROLES) -> list[Tensor]:
    """Rows of each micro-batch, of clips [roles items] role by role: every row in one, at most `parts` of them.

    An item's clips are in different micro-batches, as far as there are enough (anchor, positive and negative in three):
    clips of one micro-batch share batch statistics, and what they share must not tell which belong together.
    """
    rows = torch.arange(roles * items).unflatten(0, (roles, items))
    groups = torch.arange(items).chunk(min(parts, items))
    return [
        torch.cat([rows[role, groups[(k + role) % len(groups)]] for role in range(roles)]) for k in range(len(groups))
    ]


def _vectors(batch: Batch) -> np.ndarray:
    """[2 b, P]: what was done to the anchors, then to the negatives."""
    return np.stack([mix_chain_vector(chains[role]) for role in (0, 2) for chains in batch.chains])


def _gradient_of(leaf: Tensor) -> Tensor:
    return leaf.grad if leaf.grad is not None else torch.zeros_like(leaf)


@contextmanager
def _norms_at_rest(encoder: Encoder) -> Iterator[None]:
    """Batch statistics are used but not followed: the second pass over the same clips does that."""
    norms = [module for module in encoder.modules() if isinstance(module, BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _not_yet(network: nn.Module) -> Any:
    """Gradients stay on their rank until the last micro-batch."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
