"""The contrastive loss: InfoNCE (van den Oord, Li, Vinyals 2018, eq. 4) with a hard negative for every anchor.

For anchor a_i with positive p_i (another clip of the song) and negative n_i (a_i's own audio, mixed differently), all
embeddings on the unit sphere and sim(x, y) = x . y / temperature:

    loss = -1/B sum_i log( exp sim(a_i, p_i) / sum_j [exp sim(a_i, p_j) + exp sim(a_i, n_j)] )

so an anchor has 2B candidates: its positive, its own negative, and the positives and negatives of all others.

Where the negative of item i is mixed with the chain of item i + 1, each chain is on three clips and each anchor's clip
has two chains. `chain_info_nce` then takes every clip as an anchor with two positives (Khosla et al.: "Supervised
Contrastive Learning", NeurIPS 2020, eq. 2).
"""

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class InfoNCE:
    """The loss and what to watch beside it, all scalars [] in float32; only the loss carries a gradient."""

    loss: Tensor
    positive_similarity: Tensor
    """Mean cosine of anchors to their positives."""
    negative_similarity: Tensor
    """Mean cosine of anchors to their own negatives."""
    other_similarity: Tensor
    """Mean cosine of anchors to the positives and negatives of others; NaN for a batch of one."""
    accuracy: Tensor
    """Share of anchors that are closer to their positive than to any other candidate; ties do not count."""


def info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
    """InfoNCE of embeddings [B, E] each, which need not be normalised; computed in float32, also under autocast.

    Raises ValueError for shapes that differ and for a temperature that is not above 0.

    >>> same = torch.ones(3, 4)
    >>> torch.isclose(info_nce(same, same, same, 0.1).loss, torch.tensor(6.0).log()).item()
    True
    """
    if anchor.ndim != 2 or not anchor.shape == positive.shape == negative.shape or anchor.shape[0] == 0:
        shapes = [list(x.shape) for x in (anchor, positive, negative)]
        raise ValueError(f"anchor, positive and negative should be [B, E] alike, not {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} should be above 0")
    with torch.autocast(anchor.device.type, enabled=False):
        anchor, positive, negative = (F.normalize(x.float(), dim=-1) for x in (anchor, positive, negative))
        cosine = anchor @ torch.cat([positive, negative]).T  # [B, 2B]; candidate i is anchor i's positive
        target = torch.arange(len(anchor), device=anchor.device)
        loss = F.cross_entropy(cosine / temperature, target)
    return _watched(loss, cosine.detach(), target)


def chain_info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
    """The supervised contrastive loss over all 3B clips, of which three at a time share a chain; [B, E] each.

    Chains: item i's on anchor and positive i, and on negative i - 1 (the last one's on the first: a ring). Watched as
    in `info_nce`. Raises ValueError as that does, and for a batch of one, whose negative would have its anchor's chain.

    >>> same = torch.ones(3, 4)
    >>> torch.isclose(chain_info_nce(same, same, same, 0.1).loss, torch.tensor(8.0).log()).item()
    True
    """
    watched = info_nce(anchor, positive, negative, temperature)
    batch = len(anchor)
    if batch < 2:
        raise ValueError("a ring of chains needs a batch of 2 or more")
    with torch.autocast(anchor.device.type, enabled=False):
        clips = F.normalize(torch.cat([anchor, positive, negative]).float(), dim=-1)
        itself = torch.eye(3 * batch, dtype=torch.bool, device=clips.device)
        logits = (clips @ clips.T / temperature).masked_fill(itself, -torch.inf)
        own = torch.arange(batch, device=clips.device)
        chain = torch.cat([own, own, (own + 1) % batch])
        alike = (chain[:, None] == chain) & ~itself
        told = torch.log_softmax(logits, 1).masked_fill(~alike, 0.0).sum(1) / alike.sum(1)
    return dataclasses.replace(watched, loss=-told.mean())


def _watched(loss: Tensor, cosine: Tensor, target: Tensor) -> InfoNCE:
    batch = len(target)
    own = cosine[target, target]
    hard = cosine[target, target + batch]
    others = cosine.sum() - own.sum() - hard.sum()
    rivals = cosine.scatter(1, target[:, None], -torch.inf).amax(1)
    return InfoNCE(
        loss=loss,
        positive_similarity=own.mean(),
        negative_similarity=hard.mean(),
        other_similarity=others / (2 * batch * (batch - 1)) if batch > 1 else torch.full_like(others, torch.nan),
        accuracy=(own > rivals).float().mean(),
    )
