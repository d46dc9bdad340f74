"""The spectrum of a stem: wide bands, octaves, tilt, flatness."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.descriptors.bands_and_floors import (
    BAND_FLOOR_DB,
    FLATNESS_FLOOR_DB,
    OCTAVES_HZ,
    REGIONS_HZ,
    TILT_OCTAVES,
)
from mixstyle.pipeline.descriptors.descriptor import Descriptor, group

if TYPE_CHECKING:
    from torch import Tensor

    from mixstyle.pipeline.descriptors.measured import Measured

_BAND = "10 log10(E({}) / E(22 Hz..Nyquist)), E summed over both channels; floor -80"  # stored: a version keeps it
_EDGES = {"low": "22..250 Hz", "mid": "250..4000 Hz", "high": "4000 Hz..Nyquist"}
_DENSITY_DB_PER_OCTAVE = 3.010299956639812  # 10 log10 2: each octave is twice as wide as the one below


def _table(stem: str) -> list[Descriptor]:
    regions = [
        Descriptor(
            stem=stem,
            kind=f"band_{region}_db",
            unit="dB",
            formula=_BAND.format(_EDGES[region]),
            source="Welch 1967",
            title=f"Band level, {region}",
            region=region,
        )
        for region, _, _ in REGIONS_HZ
    ]
    tilt = Descriptor(
        stem=stem,
        kind="tilt_db_per_octave",
        unit="dB/octave",
        formula="least-squares slope of octave level - 10 log10(octave width / Hz) against log2 f, 62.5 Hz..8 kHz; "
        "white noise 0, pink noise -3.01; silent: 0",
        source="Least squares over octave levels",
        title="Tilt",
        digits=2,
    )
    flatness = Descriptor(
        stem=stem,
        kind="flatness_db",
        unit="dB",
        formula="sum_t W(t) 10 log10(G(t) / A(t)) / sum_t W(t), 250 Hz..8 kHz: G and A are the geometric and the "
        "arithmetic mean of a frame's bin powers, each bin at least A / 10^6, W the frame's power; silent: -60",
        source="Spectral flatness, ISO/IEC 15938-4 (MPEG-7)",
        title="Flatness",
    )
    return [*regions, *(_octave(stem, center_hz) for center_hz in OCTAVES_HZ), tilt, flatness]


def _octave(stem: str, center_hz: float) -> Descriptor:
    hz = int(center_hz + 0.5)
    return Descriptor(
        stem=stem,
        kind=f"octave_{hz}hz_db",
        unit="dB",
        formula=_BAND.format(f"{center_hz:g} Hz / sqrt 2..{center_hz:g} Hz sqrt 2"),
        source="Welch 1967; octaves of IEC 61260-1, base 2",
        title=f"Octave at {hz} Hz",
        octave_hz=center_hz,
    )


@group("spectral", _table, place=20)
def spectral(m: "Measured") -> "Tensor":
    """[B, 4, 15]"""
    import torch

    from mixstyle.pipeline.descriptors.measured import decibels

    energy = m.bands.sum(-2)
    count = len(OCTAVES_HZ)
    total = energy[..., :count].sum(-1, keepdim=True)
    level_db = (decibels(energy) - decibels(total)).clamp(min=BAND_FLOOR_DB)
    silent = m.spectrum_silent
    level_db = torch.where(silent[..., None], BAND_FLOOR_DB, level_db)
    flatness_db = torch.where(silent, FLATNESS_FLOOR_DB, m.flatness_db)
    tilt = torch.where(silent, 0.0, _tilt(level_db[..., :count]))
    return torch.cat([level_db[..., count:], level_db[..., :count], torch.stack([tilt, flatness_db], -1)], -1)


def _tilt(octaves_db: "Tensor") -> "Tensor":
    """Slope in dB per octave of octave levels [..., octaves] taken as densities."""
    import torch

    used = octaves_db[..., TILT_OCTAVES]
    octave = torch.arange(used.shape[-1], dtype=used.dtype, device=used.device)
    octave = octave - octave.mean()
    slope = (used * octave).sum(-1) / octave.square().sum()
    return slope - _DENSITY_DB_PER_OCTAVE
