"""Levels of a stem: RMS, crest factor, loudness."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.descriptors.bands_and_floors import RATIO_LIMIT_DB, RMS_FLOOR_DBFS
from mixstyle.pipeline.descriptors.descriptor import Descriptor, group
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS

if TYPE_CHECKING:
    from torch import Tensor

    from mixstyle.pipeline.descriptors.measured import Measured

_STANDARD = "ITU-R BS.1770-4"


def _table(stem: str) -> list[Descriptor]:
    rms = [
        Descriptor(
            stem=stem,
            kind=f"rms_{side}_dbfs",
            unit="dBFS",
            formula=f"10 log10(mean(x^2)) of the {side} channel; 0 dBFS is a full-scale square wave; floor -120",
            source="Root mean square",
            title=f"RMS, {side}",
            moves_with_level=True,
        )
        for side in ("left", "right")
    ]
    return [
        *rms,
        Descriptor(
            stem=stem,
            kind="crest_db",
            unit="dB",
            formula="20 log10(max(|l|, |r|)) - 10 log10((mean(l^2) + mean(r^2)) / 2); silent: 0",
            source="Crest factor, sample peak",
            title="Crest factor",
        ),
        Descriptor(
            stem=stem,
            kind="loudness_lufs",
            unit="LUFS",
            formula="-0.691 + 10 log10 of the K-weighted mean square of the 400 ms blocks that pass both gates; "
            "floor -70",
            source=_STANDARD,
            title="Loudness",
            moves_with_level=True,
            without_stem=True,
        ),
        Descriptor(
            stem=stem,
            kind="relative_loudness_lu",
            unit="LU",
            formula="loudness of the stem - loudness of the sum of all stems, within +-60; stem below the gate: -60",
            source=_STANDARD,
            title="Relative loudness",
            without_stem=True,
        ),
        Descriptor(
            stem=stem,
            kind="peak_to_loudness_lu",
            unit="LU",
            formula="20 log10(max(|l|, |r|)) - (loudness of the stem, in LUFS), within +-60; stem below the gate: 0",
            source="Peak-to-loudness ratio, sample peak",
            title="Peak to loudness",
        ),
    ]


@group("dynamics", _table, place=10)
def dynamics(m: "Measured") -> "Tensor":
    """[B, 4, 6]"""
    import torch

    from mixstyle.pipeline.descriptors.measured import decibels

    crest_db = decibels(m.peak.square()) - decibels(m.power)
    relative_lu = (m.lufs - m.mix_lufs[:, None]).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    peak_lu = (decibels(m.peak.square()) - m.lufs).clamp(-RATIO_LIMIT_DB, RATIO_LIMIT_DB)
    ungated = m.lufs <= LOUDNESS_FLOOR_LUFS
    values = (
        decibels(m.left).clamp(min=RMS_FLOOR_DBFS),
        decibels(m.right).clamp(min=RMS_FLOOR_DBFS),
        torch.where(m.silent, 0.0, crest_db),
        m.lufs,
        torch.where(ungated, -RATIO_LIMIT_DB, relative_lu),
        torch.where(ungated, 0.0, peak_lu),
    )
    return torch.stack(values, -1)
