"""The stereo image of a stem: level difference, correlation, mid against side."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.descriptors.bands_and_floors import BAND_FLOOR_DB, OCTAVES_HZ, REGIONS_HZ
from mixstyle.pipeline.descriptors.descriptor import Descriptor, group

if TYPE_CHECKING:
    from torch import Tensor

    from mixstyle.pipeline.descriptors.measured import Measured

_MID_SIDE = "10 log10(mean(m^2) / mean(s^2)), m = l + r, s = l - r{}, within +-60; {}: 0"
_SOURCE = "Energy ratio"


def _table(stem: str) -> list[Descriptor]:
    whole = [
        Descriptor(
            stem=stem,
            kind="level_difference_db",
            unit="dB",
            formula="10 log10(mean(l^2) / mean(r^2)), within +-60; silent: 0",
            source="Inter-channel level difference",
            title="Level difference",
        ),
        Descriptor(
            stem=stem,
            kind="correlation",
            unit="1",
            formula="mean(l r) / sqrt(mean(l^2) mean(r^2)); a silent channel: 0",
            source="Phase correlation, without removal of the mean",
            title="Correlation",
            digits=2,
        ),
        Descriptor(
            stem=stem,
            kind="mid_side_db",
            unit="dB",
            formula=_MID_SIDE.format("", "silent"),
            source=_SOURCE,
            title="Mid/side ratio",
        ),
    ]
    by_region = [
        Descriptor(
            stem=stem,
            kind=f"mid_side_{region}_db",
            unit="dB",
            formula=_MID_SIDE.format(f" within the {region} band", "band at its floor"),
            source=_SOURCE,
            title=f"Mid/side ratio, {region}",
            region=region,
        )
        for region, _, _ in REGIONS_HZ
    ]
    return [*whole, *by_region]


@group("stereo", _table, place=30)
def stereo(m: "Measured") -> "Tensor":
    """[B, 4, 6]"""
    import torch

    from mixstyle.pipeline.descriptors.measured import SILENT_POWER, ratio_db

    both = m.left * m.right
    correlation = (m.mid - m.side) / 4 / both.clamp(min=torch.finfo(both.dtype).tiny).sqrt()
    dead = torch.minimum(m.left, m.right) < SILENT_POWER
    regions = m.bands[..., len(OCTAVES_HZ) :]
    empty = regions.sum(-2) <= 10 ** (BAND_FLOOR_DB / 10) * m.bands[..., : len(OCTAVES_HZ)].sum((-1, -2))[..., None]
    by_region = ratio_db(regions[..., 0, :], regions[..., 1, :])
    whole = (
        torch.where(m.silent, 0.0, ratio_db(m.left, m.right)),
        torch.where(dead, 0.0, correlation.clamp(-1.0, 1.0)),
        torch.where(m.silent, 0.0, ratio_db(m.mid, m.side)),
    )
    by_region = torch.where(empty | m.spectrum_silent[..., None], 0.0, by_region)
    return torch.cat([torch.stack(whole, -1), by_region], -1)
