"""The table of descriptors: what each value of `describe` is, in the order of its columns.

Columns go stem by stem (vocals, bass, drums, other), and within a stem in the order below. The table is the one place
that names, units, formulas and sources come from: the store's attributes and docs/descriptors.md are made of it.
"""

from dataclasses import dataclass

from mixstyle.pipeline.core.stems import STEMS

DESCRIPTORS_VERSION: int = 2
"""Counts up whenever a value changes its meaning, so that stores made before are told apart."""

RMS_FLOOR_DBFS = -120.0
"""A stem whose mean square over both channels lies below this is silent."""
BAND_FLOOR_DB = -80.0
RATIO_LIMIT_DB = 60.0
FLATNESS_FLOOR_DB = -60.0
MASKING_LIMIT_DB = 30.0
ACTIVE_DB = -40.0
"""A tile of time and frequency counts for masking when it lies above this, against the mean of its stem's tiles."""

LOWEST_HZ = 1000 * 2**-5.5
"""22.1 Hz: lower edge of the lowest octave, and of all that is measured in frequency."""
CROSSOVER_HZ = 1000 * 2**-1.5
"""353.6 Hz, an octave's edge: below it frequencies are resolved by windows of 93 ms, above it of 23 ms."""
OCTAVES_HZ: tuple[float, ...] = tuple(1000 * 2.0**k for k in range(-5, 5))
"""Centres 31.25 Hz to 16 kHz; edges lie half an octave to either side, the top one at half the sampling rate."""
REGIONS_HZ: tuple[tuple[str, float, float], ...] = (
    ("low", LOWEST_HZ, 250.0),
    ("mid", 250.0, 4000.0),
    ("high", 4000.0, float("inf")),
)
TILT_OCTAVES = slice(1, 9)
"""62.5 Hz to 8 kHz: without the octaves that separators and codecs cut off."""
FLATNESS_HZ = (250.0, 8000.0)
MASKING_TOP_HZ = 16_000.0

GROUPS: tuple[str, ...] = ("dynamics", "spectral", "stereo", "masking")


@dataclass(frozen=True)
class Descriptor:
    """One column of `describe`."""

    name: str
    """Unique; begins with the stem and ends with the unit, such as `vocals_rms_left_dbfs`."""
    group: str
    stem: str
    unit: str
    formula: str
    """In words and symbols that docs/descriptors.md explains, with the floors."""
    source: str
    moves_with_level: bool
    """Whether a gain of g dB on all stems moves it by g; all others stay as they are."""


_Row = tuple[str, str, str, str]
"""Name without the stem, unit, formula, source."""
_MOVE_WITH_LEVEL = {"rms_left_dbfs", "rms_right_dbfs", "loudness_lufs"}

_PLAIN = "Energy ratio"
_ERB = "Glasberg & Moore 1990 (ERB-rate scale)"


def _dynamics() -> list[_Row]:
    rms = "10 log10(mean(x^2)) of the {} channel; 0 dBFS is a full-scale square wave; floor -120"
    return [
        ("rms_left_dbfs", "dBFS", rms.format("left"), "Root mean square"),
        ("rms_right_dbfs", "dBFS", rms.format("right"), "Root mean square"),
        (
            "crest_db",
            "dB",
            "20 log10(max(|l|, |r|)) - 10 log10((mean(l^2) + mean(r^2)) / 2); silent: 0",
            "Crest factor, sample peak",
        ),
        (
            "loudness_lufs",
            "LUFS",
            "-0.691 + 10 log10 of the K-weighted mean square of the 400 ms blocks that pass both gates; floor -70",
            "ITU-R BS.1770-4",
        ),
        (
            "relative_loudness_lu",
            "LU",
            "loudness of the stem - loudness of the sum of all stems, within +-60; stem below the gate: -60",
            "ITU-R BS.1770-4",
        ),
        (
            "peak_to_loudness_lu",
            "LU",
            "20 log10(max(|l|, |r|)) - (loudness of the stem, in LUFS), within +-60; stem below the gate: 0",
            "Peak-to-loudness ratio, sample peak",
        ),
    ]


def _spectral() -> list[_Row]:
    band = "10 log10(E({}) / E(22 Hz..Nyquist)), E summed over both channels; floor -80"
    edges = {"low": "22..250 Hz", "mid": "250..4000 Hz", "high": "4000 Hz..Nyquist"}
    rows = [(f"band_{n}_db", "dB", band.format(edges[n]), "Welch 1967") for n, _, _ in REGIONS_HZ]
    for center in OCTAVES_HZ:
        name, span = f"octave_{int(center + 0.5)}hz_db", f"{center:g} Hz / sqrt 2..{center:g} Hz sqrt 2"
        rows.append((name, "dB", band.format(span), "Welch 1967; octaves of IEC 61260-1, base 2"))
    rows.append(
        (
            "tilt_db_per_octave",
            "dB/octave",
            "least-squares slope of octave level - 10 log10(octave width / Hz) against log2 f, "
            "62.5 Hz..8 kHz; white noise 0, pink noise -3.01; silent: 0",
            "Least squares over octave levels",
        )
    )
    rows.append(
        (
            "flatness_db",
            "dB",
            "sum_t W(t) 10 log10(G(t) / A(t)) / sum_t W(t), 250 Hz..8 kHz: G and A are the geometric and the "
            "arithmetic mean of a frame's bin powers, each bin at least A / 10^6, W the frame's power; silent: -60",
            "Spectral flatness, ISO/IEC 15938-4 (MPEG-7)",
        )
    )
    return rows


def _stereo() -> list[_Row]:
    ratio = "10 log10(mean(m^2) / mean(s^2)), m = l + r, s = l - r{}, within +-60; {}: 0"
    rows = [
        (
            "level_difference_db",
            "dB",
            "10 log10(mean(l^2) / mean(r^2)), within +-60; silent: 0",
            "Inter-channel level difference",
        ),
        (
            "correlation",
            "1",
            "mean(l r) / sqrt(mean(l^2) mean(r^2)); a silent channel: 0",
            "Phase correlation, without removal of the mean",
        ),
        ("mid_side_db", "dB", ratio.format("", "silent"), _PLAIN),
    ]
    for name, _, _ in REGIONS_HZ:
        where = f" within the {name} band"
        rows.append((f"mid_side_{name}_db", "dB", ratio.format(where, "band at its floor"), _PLAIN))
    return rows


def _masking(stem: str) -> list[_Row]:
    rows = [
        (
            "masking_db",
            "dB",
            "mean over active tiles of 10 log10(sum of the others' tile energies / own), each within +-30; silent: 30",
            _ERB,
        ),
        (
            "masked_share",
            "1",
            "share of active tiles in which the others' energies together exceed the stem's; silent: 1",
            _ERB,
        ),
    ]
    for other in STEMS:
        if other != stem:
            formula = f"share of active tiles in which {other} alone exceeds the stem; silent: 1"
            rows.append((f"masked_by_{other}_share", "1", formula, _ERB))
    return rows


def _table() -> tuple[Descriptor, ...]:
    rows: list[Descriptor] = []
    for stem in STEMS:
        groups = (_dynamics(), _spectral(), _stereo(), _masking(stem))
        for group, entries in zip(GROUPS, groups, strict=True):
            for name, unit, formula, source in entries:
                moves = name in _MOVE_WITH_LEVEL
                rows.append(Descriptor(f"{stem}_{name}", group, stem, unit, formula, source, moves))
    return tuple(rows)


DESCRIPTORS: tuple[Descriptor, ...] = _table()
"""The columns of `describe`, in order."""


def markdown() -> str:
    """docs/descriptors.md: how the values are measured, and every column's formula."""
    lines = [_INTRODUCTION]
    per_stem = [d for d in DESCRIPTORS if d.stem == STEMS[0]]
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", "", "| name | unit | moves with level | formula | source |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for d in (d for d in per_stem if d.group == group):
            name = d.name.removeprefix(f"{d.stem}_")
            formula = d.formula.replace("|", "\\|")
            moves = "yes" if d.moves_with_level else "no"
            lines.append(f"| `{name}` | {d.unit} | {moves} | {formula} | {d.source} |")
        lines.append("")
    names = [d.name for d in DESCRIPTORS]
    lines += ["## Columns", "", "In order, as the store and `describe` give them:", ""]
    lines += [f"{i}. `{name}`" for i, name in enumerate(names)]
    return "\n".join(lines) + "\n"


_INTRODUCTION = f"""# Descriptors

<!-- Made by: python -m mixstyle.pipeline.descriptors.compute > docs/descriptors.md -->

`mixstyle.pipeline.descriptors.compute.describe` gives {len(DESCRIPTORS)} values a clip: the same list for each of the
{len(STEMS)} stems, in four groups. Version {DESCRIPTORS_VERSION}. Names begin with the stem (`vocals_`, `bass_`,
`drums_`, `other_`); the tables below show the vocals' without it (the others' masking columns name the three other
stems likewise). The mix is the sum of the stems.

- **Frames.** l and r are turned into m = l + r and s = l - r, whose energies add up to twice those of l and r. Above
  {CROSSOVER_HZ:.1f} Hz frames are 1024 samples (23 ms) under a Hann window, every 512 samples, reflected at the ends.
  Below, where bands are narrower than that resolves, frames are 4096 samples (93 ms), every 2048, taken after
  decimation by 16 (alias rejection above 85 dB). The milliseconds are those at 44.1 kHz. Energies are means over
  frames, scaled to mean squares. A bin that straddles the edge of a band is divided by the share of its width on
  either side.
- **Masking** looks at *tiles*: a frame times a band about one ERB wide, 8 bands below the crossover and 31 from there
  to 16 kHz. A tile is active when its energy is above {ACTIVE_DB:g} dB against the mean of the stem's tiles. Every band
  counts the same, however many frames it has. Positive dB: the others are louder.
- **Floors.** A stem below {RMS_FLOOR_DBFS:g} dBFS is *silent*, and so is the spectrum of a stem that has nothing (below
  -90 dB of its energy) above 22 Hz, such as a constant. Every value is then finite, as its formula says.
  Not-a-number in the audio gives not-a-number.
- **Level.** A gain of g dB on all stems moves the columns that say so by g, and leaves all others as they are, away
  from the floors and the gate at -70 LUFS.
- **Stable on 10 s?** Measured on 276 clips of 10 s out of 70 songs, separated: the share of a value's variance that
  lies between songs and not between clips of one song (intraclass correlation), median of the stems. The values in the
  table have 0.22 to 0.61 (crest factor 0.31, loudness 0.38, correlation 0.58). The **peak-to-loudness ratio** has 0.35
  and is in the table. With the true peak (BS.1770-4, annex 2) it has the same, and the sample peak costs nothing: the
  true peak of these stems lies 0.01 dB higher in the median clip, at most 0.3 dB in nine of ten, and 1 dB in one of 100
  of the drums. The **loudness range** (EBU Tech 3342) has 0.03, which is none: clips of one song differ by a standard
  deviation of 6.3 LU, songs by 1.1. 10 s hold three blocks of 3 s that do not overlap, and EBU Tech 3341 has a meter
  mark the range as unstable below 60 s. So it is left out.
"""
