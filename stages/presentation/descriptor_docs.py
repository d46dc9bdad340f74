"""docs/descriptors.md: how the values are measured, and every column's formula, out of the table of descriptors.

`python -m mixstyle.stages.presentation.descriptor_docs > docs/descriptors.md` makes it.
"""

import sys

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU
from mixstyle.pipeline.descriptors.bands_and_floors import ACTIVE_DB, CROSSOVER_HZ, RMS_FLOOR_DBFS
from mixstyle.pipeline.descriptors.k_weighting import LOUDNESS_FLOOR_LUFS
from mixstyle.pipeline.descriptors.song_values import RELATIVE_GATE_LU
from mixstyle.pipeline.descriptors.table import DESCRIPTORS, DESCRIPTORS_VERSION, GROUPS

_SONGS = f"""## A song's own values

A song is described by its clips. A song's own values of a stem come from the clips in which the stem plays. They are
the same in `describe`, `compare`, `search`, `match` and an index.

- **Clips in which a stem plays.** They are found by the two gates of BS.1770-4, applied to clips. A clip counts if the
  stem is above {LOUDNESS_FLOOR_LUFS:g} LUFS, and less than {-RELATIVE_GATE_LU:g} LU below the mean of all clips
  above it.
- **Loudness.** A stem's loudness is the mean of power over these clips. Its loudness against the mix is this value
  minus the loudness of the mix, which is computed in the same way.
- **All other values** are medians over these clips. A value of two stems, such as `masked_by_bass_share`, is the median
  over the clips in which both stems play. If there are none, it is the median over those in which the stem itself
  plays.
- **A stem that never plays** has the medians over all clips.

An index that was made earlier keeps the rule with which it was begun, until `mixstyle index --rebuild`: medians over
all clips, and in the oldest indexes also medians of loudness.

A song has a stem if the stem's loudness is less than {-ABSENT_LU:g} LU below that of the mix. So a singer who sings in
a third of the clips is present. With medians of loudness, she would be absent. Both rules were compared on 156 songs of
eight game soundtracks (12 clips of 10 s, the small separator):

| songs in which the rule finds | vocals | bass | drums | other |
| --- | --- | --- | --- | --- |
| medians of loudness | 92 | 153 | 143 | 156 |
| this rule | 128 | 154 | 145 | 156 |

Another separator judged whether somebody sings (Spleeter with two stems: its vocals are within 15 dB of the mix in one
of six clips). It judged 76 songs that were drawn at random:

| vocals are found by | somebody sings in |
| --- | --- |
| both rules | 11 of 24 songs |
| this rule alone | 13 of 36 songs |
| neither | 1 of 16 songs |

So medians miss about a quarter of the songs with singing. When they find vocals, they are hardly more often right (46%
against 43%). If the small separator finds vocals, it is more likely that nobody sings.

In 109 of the 128 songs, the vocals do not play in some clips. In these songs, the crest factor of the vocals differs
from the median over all clips by 0.8 dB (the median of songs; 3.1 dB in one song of ten), and their octave at 1 kHz by
1.2 dB (6.1 dB). Drums do not play in some clips of 47 of 145 songs, bass of 41 of 154, other of 9 of 156.
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

`mixstyle.describe` gives {len(DESCRIPTORS)} values for each clip: the same list for each of the {len(STEMS)} stems, in
four groups. This is version {DESCRIPTORS_VERSION}. Names begin with the stem (`vocals_`, `bass_`, `drums_`, `other_`).
The tables below show the values of the vocals, without `vocals_`. The masking values of another stem have the names of
the three stems other than itself. The mix is the sum of the stems.

- **Frames.** Left and right (l, r) become m = l + r and s = l - r. The energies of m and s add up to twice those of l
  and r. Above {CROSSOVER_HZ:.1f} Hz, frames have 1024 samples (23 ms) with a Hann window, one every 512 samples, and
  the signal is reflected at its ends. Below {CROSSOVER_HZ:.1f} Hz, bands are too narrow for such frames. There, frames
  have 4096 samples (93 ms), one every 2048, after decimation by 16 (alias rejection above 85 dB). The milliseconds are
  for 44.1 kHz. Energies are means over frames, scaled to mean squares. The energy of a bin at the edge of two bands is
  divided between them, by the share of its width on each side.
- **Totals.** The total of all octaves, E(22 Hz..Nyquist) in the formulas, ends at the upper edge of the top octave,
  22.6 kHz. At sample rates above 45.3 kHz, that is below Nyquist. So a song has nearly the same values at 44.1 and at
  48 kHz.
- **Masking** uses *tiles*. A tile is one frame in one band. Bands are about one ERB wide: 8 bands below the crossover,
  and 31 from there to 16 kHz. A tile is active if its energy is above {ACTIVE_DB:g} dB relative to the mean of the
  stem's tiles. Every band counts the same, whatever its number of frames. Positive dB: the other stems are louder.
- **Floors.** A stem below {RMS_FLOOR_DBFS:g} dBFS is *silent*. The spectrum of a stem is silent too if the stem has
  nothing above 22 Hz (below -90 dB of its energy), as a constant has. All values are then finite, as their formulas
  say. Not-a-number in the audio gives not-a-number.
- **Level.** A gain of g dB on all stems changes the columns that "move with level" by g. It leaves all others as they
  are, except near the floors and the gate at -70 LUFS.
- **Stable on 10 s?** This was measured on 276 separated clips of 10 s from 70 songs. The measure is the share of a
  value's variance that is between songs, and not between clips of one song (intraclass correlation), as the median of
  the stems. The values in the table have 0.22 to 0.61 (crest factor 0.31, loudness 0.38, correlation 0.58).
  - The **peak-to-loudness ratio** has 0.35 and is in the table. It uses the sample peak, which costs nothing. With the
    true peak (BS.1770-4, annex 2) it has the same 0.35. The true peak of these stems is higher by 0.01 dB in the median
    clip, by at most 0.3 dB in nine of ten clips, and by 1 dB in one of 100 clips of the drums.
  - The **loudness range** (EBU Tech 3342) has 0.03, almost nothing: clips of one song have a standard deviation of
    6.3 LU, and songs of 1.1 LU. Ten seconds hold only three blocks of 3 s that do not overlap, and EBU Tech 3341 has
    meters mark the range as unstable below 60 s. So it is left out.
"""


if __name__ == "__main__":
    sys.stdout.write(markdown())
