"""Contrastive losses over anchors, positives and hard negatives.

InfoNCE (van den Oord, Li, Vinyals 2018, eq. 4) with a hard negative for every anchor: for anchor a_i with positive p_i
and negative n_i (a_i's own audio, mixed differently), all embeddings on the unit sphere and
sim(x, y) = x . y / temperature:

    loss = -1/B sum_i log( exp sim(a_i, p_i) / sum_j [exp sim(a_i, p_j) + exp sim(a_i, n_j)] )

so an anchor has 2B candidates: its positive, its own negative, and the positives and negatives of all others.

Where the negative of item i is mixed with the chain of item i + 1, each chain is on three clips and each anchor's clip
has two chains. `chain_info_nce` then takes every clip as an anchor with two positives (Khosla et al.: "Supervised
Contrastive Learning", NeurIPS 2020, eq. 2). `supervised_contrastive` is the same loss for any grouping of the clips.

`two_axis_info_nce` takes anchors and positives as anchors, each the only positive of the other, among all 3B clips.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class InfoNCE:
    """The loss and what to watch beside it, all scalars [] in float32; only the loss carries a gradient.

    An anchor's candidates are the positives and negatives of the whole batch.
    """

    loss: Tensor
    positive_similarity: Tensor
    """Mean cosine of anchors to their positives."""
    negative_similarity: Tensor
    """Mean cosine of anchors to their own negatives."""
    other_similarity: Tensor
    """Mean cosine of anchors to all other candidates; NaN where there are none."""
    accuracy: Tensor
    """Share of anchors whose nearest candidate is a positive of theirs; ties with another candidate do not count."""


def info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
    """InfoNCE of embeddings [B, E] each, which need not be normalised; computed in float32, also under autocast.

    Raises ValueError for shapes that differ and for a temperature that is not above 0.

    >>> same = torch.ones(3, 4)
    >>> torch.isclose(info_nce(same, same, same, 0.1).loss, torch.tensor(6.0).log()).item()
    True
    """
    _check(anchor, positive, negative, temperature)
    with torch.autocast(anchor.device.type, enabled=False):
        cosine = _cosines(anchor, torch.cat([positive, negative]))  # [B, 2B]; candidate i is anchor i's positive
        target = torch.arange(len(anchor), device=anchor.device)
        loss = F.cross_entropy(cosine / temperature, target)
    return _watched(loss, cosine.detach(), _own(cosine, 0))


def chain_info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
    """The supervised contrastive loss over all 3B clips, of which three at a time share a chain; [B, E] each.

    Chains: item i's on anchor and positive i, and on negative i - 1 (the last one's on the first: a ring). So an
    anchor's positives are positive i and negative i - 1. Raises ValueError as `info_nce` does, and for a batch of one,
    whose negative would have its anchor's chain.

    >>> same = torch.ones(3, 4)
    >>> torch.isclose(chain_info_nce(same, same, same, 0.1).loss, torch.tensor(8.0).log()).item()
    True
    """
    _check(anchor, positive, negative, temperature)
    batch = len(anchor)
    if batch < 2:
        raise ValueError("a ring of chains needs a batch of 2 or more")
    with torch.autocast(anchor.device.type, enabled=False):
        clips = torch.cat([anchor, positive, negative])
        cosine = _cosines(clips, clips)  # [3B, 3B]
        itself = torch.eye(3 * batch, dtype=torch.bool, device=clips.device)
        logits = (cosine / temperature).masked_fill(itself, -torch.inf)
        own = torch.arange(batch, device=clips.device)
        chain = torch.cat([own, own, (own + 1) % batch])
        alike = (chain[:, None] == chain) & ~itself
        # eq. 2: the mean over a clip's positives is outside of the logarithm
        told = torch.log_softmax(logits, 1).masked_fill(~alike, 0.0).sum(1) / alike.sum(1)
    return _watched(-told.mean(), cosine.detach()[:batch, batch:], alike[:batch, batch:])


def two_axis_info_nce(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> InfoNCE:
    """InfoNCE of anchors and positives, each of which has to find the other among all clips; [B, E] each.

    Negatives are candidates alone: nothing else has their chain and song. Raises ValueError as `info_nce` does.

    >>> same = torch.ones(3, 4)
    >>> torch.isclose(two_axis_info_nce(same, same, same, 0.1).loss, torch.tensor(8.0).log()).item()
    True
    """
    _check(anchor, positive, negative, temperature)
    batch = len(anchor)
    with torch.autocast(anchor.device.type, enabled=False):
        clips = torch.cat([anchor, positive, negative])
        cosine = _cosines(clips[: 2 * batch], clips)  # [2B, 3B]
        itself = torch.eye(2 * batch, 3 * batch, dtype=torch.bool, device=clips.device)
        logits = (cosine / temperature).masked_fill(itself, -torch.inf)
        loss = F.cross_entropy(logits, torch.arange(2 * batch, device=clips.device).roll(batch))
    return _watched(loss, cosine.detach()[:batch, batch:], _own(cosine[:batch], 0))


def supervised_contrastive(embeddings: Tensor, groups: Tensor, contents: Tensor, temperature: float) -> InfoNCE:
    """The supervised contrastive loss over N clips [N, E], of which those of one group [N] belong together.

    Every clip is an anchor; its candidates are all other clips, its positives those of its group. contents: [N]; equal
    numbers in other groups are an anchor's own negatives, the same music mixed differently. A clip that is alone in its
    group is a candidate and no anchor. Computed in float32, also under autocast. Raises ValueError for shapes that
    differ, for a temperature that is not above 0, and where no group has two clips.

    >>> pairs = torch.tensor([0, 0, 1, 1])
    >>> same = torch.ones(4, 2)
    >>> torch.isclose(supervised_contrastive(same, pairs, pairs, 0.1).loss, torch.tensor(3.0).log()).item()
    True
    """
    clips = len(embeddings)
    if embeddings.ndim != 2 or not groups.shape == contents.shape == (clips,):
        shapes = [list(x.shape) for x in (embeddings, groups, contents)]
        raise ValueError(f"embeddings, groups and contents should be [N, E], [N] and [N], not {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} should be above 0")
    with torch.autocast(embeddings.device.type, enabled=False):
        itself = torch.eye(clips, dtype=torch.bool, device=embeddings.device)
        alike = (groups[:, None] == groups) & ~itself
        anchors = alike.any(1)
        if not anchors.any():
            raise ValueError("no group has two clips")
        cosine = _cosines(embeddings, embeddings)
        told = torch.log_softmax((cosine / temperature).masked_fill(itself, -torch.inf), 1)
        loss = -(told.masked_fill(~alike, 0.0).sum(1) / alike.sum(1).clamp_min(1))[anchors].mean()
    cosine = cosine.detach()
    hard = (contents[:, None] == contents) & (groups[:, None] != groups)
    rivals = cosine.masked_fill(alike | itself, -torch.inf).amax(1)
    return InfoNCE(
        loss=loss,
        positive_similarity=cosine[alike].mean(),
        negative_similarity=cosine[hard].mean(),
        other_similarity=cosine[~(alike | hard | itself)].mean(),
        accuracy=(cosine.masked_fill(~alike, -torch.inf).amax(1) > rivals)[anchors].float().mean(),
    )


def _check(anchor: Tensor, positive: Tensor, negative: Tensor, temperature: float) -> None:
    if anchor.ndim != 2 or not anchor.shape == positive.shape == negative.shape or anchor.shape[0] == 0:
        shapes = [list(x.shape) for x in (anchor, positive, negative)]
        raise ValueError(f"anchor, positive and negative should be [B, E] alike, not {shapes}")
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} should be above 0")


def _cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Cosines [M, N] of embeddings [M, E] and [N, E], in float32."""
    return F.normalize(rows.float(), dim=-1) @ F.normalize(columns.float(), dim=-1).T


def _own(cosine: Tensor, role: int) -> Tensor:
    """[B, 2B]: for each anchor, its own positive (role 0) or its own negative (role 1)."""
    batch = len(cosine)
    return torch.eye(batch, 2 * batch, dtype=torch.bool, device=cosine.device).roll(role * batch, 1)


def _watched(loss: Tensor, cosine: Tensor, alike: Tensor) -> InfoNCE:
    """cosine: [B, 2B], of anchors to all positives, then all negatives. alike: [B, 2B], each anchor's positives."""
    hard = _own(cosine, 1)
    rivals = cosine.masked_fill(alike, -torch.inf).amax(1)
    return InfoNCE(
        loss=loss,
        positive_similarity=cosine[alike].mean(),
        negative_similarity=cosine[hard].mean(),
        other_similarity=cosine[~(alike | hard)].mean(),
        accuracy=(cosine.masked_fill(~alike, -torch.inf).amax(1) > rivals).float().mean(),
    )
