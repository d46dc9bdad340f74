"""What `match` prints: what is set, what was left alone, and descriptors before, after and of the reference."""

import numpy as np
from rich.table import Table

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.stages.presentation.descriptor_names import KINDS, Kind, shown, shown_unit
from mixstyle.stages.presentation.terminal import WIDE_WIDTH, output, print_lines
from mixstyle.stages.songs.match.render import RenderedSong
from mixstyle.stages.songs.match.song_match import SongMatch, Values

SHOWN = (
    "relative_loudness_lu",
    "octave_63hz_db",
    "octave_250hz_db",
    "octave_1000hz_db",
    "octave_4000hz_db",
    "octave_8000hz_db",
    "level_difference_db",
    "mid_side_low_db",
    "mid_side_mid_db",
    "mid_side_high_db",
    "crest_db",
)
"""The kinds of descriptors in the table; the chain's file has all."""


def print_match(matched: SongMatch, after: Values, rendered: RenderedSong) -> None:
    """Prints a line a stem, the notes, the table and the levels."""
    console = output(WIDE_WIDTH)
    print_lines(console, lines(matched, rendered))
    console.print(_table(matched, after))
    print_lines(console, levels(matched, after, rendered))


def lines(matched: SongMatch, rendered: RenderedSong) -> list[str]:
    """What is set and what was left alone."""
    return [
        *matched.chain.text[:-1],
        last_gain(rendered, matched.chain.reference_lufs),
        *(f"note: {note}" for note in matched.chain.notes),
    ]


def last_gain(rendered: RenderedSong, reference_lufs: float) -> str:
    """The gain on the whole song; where it is less than was asked for, why, and how far the song is from the
    reference."""
    told = f"at the end: {rendered.gain.gain_db:+z.1f} dB on the whole song"
    if not rendered.gain.held_by:
        return told
    louder_lu = rendered.after.loudness_lufs - reference_lufs
    far = f"{abs(louder_lu):.1f} LU {'louder' if louder_lu > 0 else 'quieter'} than the reference"
    return f"{told}: {far}, held by {rendered.gain.held_by}"


def levels(matched: SongMatch, after: Values, rendered: RenderedSong) -> list[str]:
    """How near it came, and how loud the songs are."""
    (balance, octaves), (balance_after, octaves_after) = matched.distances(matched.before), matched.distances(after)
    references = "; ".join(str(one) for one in matched.reference_loudness)
    return [
        "from the reference, as a mean over stems that both have: "
        f"loudness {balance:.1f} -> {balance_after:.1f} LU, octaves {octaves:.1f} -> {octaves_after:.1f} dB",
        f"before:    {rendered.before}",
        f"after:     {rendered.after}",
        f"reference: {references}",
    ]


def _table(matched: SongMatch, after: Values) -> Table:
    caption = "before / after / reference; after: the song's own stems as they were changed, not separated again"
    table = Table(caption=caption, caption_justify="left", box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("unit", style="dim")
    for stem in STEMS:
        table.add_column(stem if matched.in_both[stem] else f"{stem} (left alone)", justify="right")
    kinds = {kind.descriptor.kind: kind for of_group in KINDS.values() for kind in of_group}
    for name in SHOWN:
        kind = kinds[name]
        table.add_row(
            kind.title, shown_unit(kind.descriptor.unit), *(_cell(matched, after, kind, stem) for stem in STEMS)
        )
    return table


def _cell(matched: SongMatch, after: Values, kind: Kind, stem: str) -> str:
    column = kind.columns[stem]
    values = [matched.before, after, matched.reference]
    if not is_meaningful(column, *values) or not np.isfinite([one[column] for one in values]).all():
        return "-"
    return shown(column, *(float(one[column]) for one in values))
