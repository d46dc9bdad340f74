"""docs/descriptors.md: how the values are measured, and every column's formula, out of the table of descriptors.

`python -m mixstyle.stages.presentation.descriptor_docs > docs/descriptors.md` makes it.
"""

import sys

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.bands_and_floors import ACTIVE_DB, CROSSOVER_HZ, RMS_FLOOR_DBFS
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.presence import ABSENT_LU
from mixstyle.pipeline.descriptors.song_values import RELATIVE_GATE_LU
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, DESCRIPTORS_VERSION, GROUPS

_SONGS = f"""## A song's own values

A song is described by its clips. Its own values are the same in `describe`, `compare`, `search`, `match` and an index:
those of the clips in which the stem plays. These are found by the two gates of BS.1770-4, applied to clips: a clip
counts where the stem is above {LOUDNESS_FLOOR_LUFS:g} LUFS and less than {-RELATIVE_GATE_LU:g} LU below the mean of the
rest. A stem's loudness is the mean of power over these clips. Its loudness against the mix is that less the loudness of
the mix, which follows in the same way. All other values are medians over these clips. A value that is about two stems,
such as `masked_by_bass_share`, is the median over the clips in which both play, or, where there are none, over those
in which the one plays. For a stem that never plays, values are medians over all clips.

An index made before goes on by the rule that it was begun with, until `mixstyle index --rebuild`: medians over all
clips, and in the oldest ones of loudnesses too.

A song has a stem where its loudness is less than {-ABSENT_LU:g} LU below that of the mix. So a singer who sings in a
third of the clips is there. By medians of loudnesses she is not. On 156 songs of
eight game soundtracks (12 clips of 10 s, the small separator) medians find vocals in 92 songs, and this rule in 128;
bass in 153 and 154, drums in 143 and 145, other in 156 and 156. Whether somebody sings was judged by another separator
(Spleeter with two stems: its vocals within 15 dB of the mix in one of six clips), for 76 songs drawn by lot: yes in 11
of 24 songs in which both rules find vocals, in 13 of 36 in which this one alone does, and in 1 of 16 in which neither
does. So medians miss about a quarter of the songs with singing, and are right hardly more often (46% against 43%):
where the small separator hears vocals, more often than not nobody sings.

In 109 of the 128 songs the vocals rest in some clips. There the crest factor of the vocals is 0.8 dB away from the
median over all clips (the median of songs; 3.1 dB in one song of ten), and their octave at 1 kHz 1.2 dB (6.1 dB).
Drums rest in 47 of 145 songs, bass in 41 of 154, the rest in 9 of 156.
"""


def markdown() -> str:
    """docs/descriptors.md: how the values are measured, and every column's formula."""
    lines = [_INTRODUCTION]
    per_stem = [d for d in DESCRIPTORS if d.stem == STEMS[0]]
    for group in GROUPS:
        lines += [f"## {group.capitalize()}", "", "| name | unit | moves with level | formula | source |"]
        lines += ["| --- | --- | --- | --- | --- |"]
        for d in (d for d in per_stem if d.group == group):
            formula = d.formula.replace("|", "\\|")
            moves = "yes" if d.moves_with_level else "no"
            lines.append(f"| `{d.kind}` | {d.unit} | {moves} | {formula} | {d.source} |")
        lines.append("")
    names = [d.name for d in DESCRIPTORS]
    lines += [_SONGS, "## Columns", "", "In order, as the store and `describe` give them:", ""]
    lines += [f"{i}. `{name}`" for i, name in enumerate(names)]
    return "\n".join(lines) + "\n"


_INTRODUCTION = f"""# Descriptors

<!-- Made by: python -m mixstyle.stages.presentation.descriptor_docs > docs/descriptors.md -->

`mixstyle.describe` gives {len(DESCRIPTORS)} values a clip: the same list for each of the
{len(STEMS)} stems, in four groups. Version {DESCRIPTORS_VERSION}. Names begin with the stem (`vocals_`, `bass_`,
`drums_`, `other_`); the tables below show the vocals' without it (the others' masking columns name the three other
stems likewise). The mix is the sum of the stems.

- **Frames.** l and r are turned into m = l + r and s = l - r, whose energies add up to twice those of l and r. Above
  {CROSSOVER_HZ:.1f} Hz frames are 1024 samples (23 ms) under a Hann window, every 512 samples, reflected at the ends.
  Below, where bands are narrower than that resolves, frames are 4096 samples (93 ms), every 2048, taken after
  decimation by 16 (alias rejection above 85 dB). The milliseconds are those at 44.1 kHz. Energies are means over
  frames, scaled to mean squares. A bin that straddles the edge of a band is divided by the share of its width on
  either side.
- **Totals.** The total of all octaves, E(22 Hz..Nyquist) in the formulas, ends where the top octave does, at 22.6 kHz.
  At rates above 45.3 kHz that is below Nyquist: so a song has nearly the same values at 44.1 and at 48 kHz.
- **Masking** looks at *tiles*: a frame times a band about one ERB wide, 8 bands below the crossover and 31 from there
  to 16 kHz. A tile is active when its energy is above {ACTIVE_DB:g} dB against the mean of the stem's tiles. Every band
  counts the same, however many frames it has. Positive dB: the others are louder.
- **Floors.** A stem below {RMS_FLOOR_DBFS:g} dBFS is *silent*, and so is the spectrum of a stem that has nothing (below
  -90 dB of its energy) above 22 Hz, such as a constant. Every value is then finite, as its formula says.
  Not-a-number in the audio gives not-a-number.
- **Level.** A gain of g dB on all stems moves the columns that say so by g, and leaves all others as they are, away
  from the floors and the gate at -70 LUFS.
- **Stable on 10 s?** Measured on 276 clips of 10 s out of 70 songs, separated: the share of a value's variance that
  is between songs and not between clips of one song (intraclass correlation), median of the stems. The values in the
  table have 0.22 to 0.61 (crest factor 0.31, loudness 0.38, correlation 0.58). The **peak-to-loudness ratio** has 0.35
  and is in the table. With the true peak (BS.1770-4, annex 2) it has the same, and the sample peak costs nothing: the
  true peak of these stems is 0.01 dB higher in the median clip, at most 0.3 dB in nine of ten, and 1 dB in one of 100
  of the drums. The **loudness range** (EBU Tech 3342) has 0.03, which is none: clips of one song differ by a standard
  deviation of 6.3 LU, songs by 1.1. 10 s hold three blocks of 3 s that do not overlap, and EBU Tech 3341 has a meter
  mark the range as unstable below 60 s. So it is left out.
"""


if __name__ == "__main__":
    sys.stdout.write(markdown())
