"""How much the other stems cover a stem, in tiles of time and frequency."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.bands_and_floors import ACTIVE_DB, MASKING_LIMIT_DB
from mixstyle.pipeline.descriptors.descriptor import Descriptor, group

if TYPE_CHECKING:
    from torch import Tensor

    from mixstyle.pipeline.descriptors.measured import Measured

_ERB = "Glasberg & Moore 1990 (ERB-rate scale)"


def _table(stem: str) -> list[Descriptor]:
    together = [
        Descriptor(
            stem=stem,
            kind="masking_db",
            unit="dB",
            formula="mean over active tiles of 10 log10(sum of the others' tile energies / own), each within +-30; "
            "silent: 30",
            source=_ERB,
            title="Masking",
        ),
        Descriptor(
            stem=stem,
            kind="masked_share",
            unit="1",
            formula="share of active tiles in which the others' energies together exceed the stem's; silent: 1",
            source=_ERB,
            title="Masked share",
            digits=2,
        ),
    ]
    one_by_one = [
        Descriptor(
            stem=stem,
            kind=f"masked_by_{other}_share",
            unit="1",
            formula=f"share of active tiles in which {other} alone exceeds the stem; silent: 1",
            source=_ERB,
            title=f"Masked share by {other}",
            other_stem=other,
            digits=2,
        )
        for other in STEMS
        if other != stem
    ]
    return [*together, *one_by_one]


@group("masking", _table, place=40)
def masking(m: "Measured") -> "Tensor":
    """[B, 4, 5]: level of the others over the stem, share of its tiles that they mask, and each of them alone."""
    import torch

    mean, sums = tile_sums(m) if m.masked is None else (m.masked[..., 0], m.masked[..., 1:])
    shares = sums[..., 1:] / sums[..., :1].clamp(min=torch.finfo(sums.dtype).tiny)
    nothing = shares.new_tensor([MASKING_LIMIT_DB, 1.0, 1.0, 1.0, 1.0])
    masked = torch.where((m.spectrum_silent | (sums[..., 0] == 0))[..., None], nothing, shares)
    return masked + 0 * mean.sum(-1)[:, None, None]  # NaN in any stem leaves nothing to compare


def tile_sums(m: "Measured") -> "tuple[Tensor, Tensor]":
    """[B, 4], the mean of a stem's tiles, and [B, 4, 6], `_sums` over both grids."""
    import torch

    grids = (m.coarse_tiles, m.fine_tiles)
    bands = sum(g.shape[-1] for g in grids)
    mean = torch.stack([g.mean(-2).sum(-1) for g in grids]).sum(0) / bands
    threshold = (10 ** (ACTIVE_DB / 10) * mean)[..., None, None]
    parts = [_sums(g, threshold) / g.shape[-2] for g in grids]  # every band counts the same
    return mean, torch.stack(parts).sum(0)


def _sums(tiles: "Tensor", threshold: "Tensor") -> "Tensor":
    """[B, 4, 6]: active tiles, sum of the others' levels over them, how many are masked, and by each other stem."""
    import torch

    from mixstyle.pipeline.descriptors.measured import decibels

    active = tiles >= threshold
    names = range(tiles.shape[1])
    rows = []
    for stem in names:
        own, counted = tiles[:, stem], active[:, stem]
        others = [tiles[:, o] for o in names if o != stem]
        together = torch.stack(others).sum(0)
        level_db = (decibels(together) - decibels(own)).clamp(-MASKING_LIMIT_DB, MASKING_LIMIT_DB)
        sums = [counted.float(), torch.where(counted, level_db, 0.0)]
        sums += [((other > own) & counted).float() for other in (together, *others)]
        rows.append(torch.stack([s.sum((-1, -2)) for s in sums], -1))
    return torch.stack(rows, 1)
