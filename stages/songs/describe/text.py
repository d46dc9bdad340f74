"""The table of a song's descriptors, and a sentence a stem."""

import math
from functools import partial

from rich.table import Table
from rich.text import Text

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, is_meaningful, relative_column
from mixstyle.pipeline.descriptors.table import COLUMN
from mixstyle.stages.presentation.descriptor_names import shown
from mixstyle.stages.presentation.descriptor_tables import add_descriptor_rows
from mixstyle.stages.presentation.estimates import FEW_SONGS
from mixstyle.stages.presentation.terminal import output, print_lines
from mixstyle.stages.songs.describe.song import DescribedSong, ordinal


def print_song(song: DescribedSong, songs: int) -> None:
    """Prints a song's table and sentences. songs: how many cached ones its percentiles are among."""
    console = output()
    console.print(_table(song, songs))
    print_lines(console, sentences(song, songs))


def sentences(song: DescribedSong, songs: int) -> list[str]:
    """What the table says first, in words: a line for the mix and one for each stem."""
    clips = f"{song.clips} clips" if song.clips > 1 else "a clip"
    lines = [f"{song.name}: {song.loudness}; its stems are measured on {clips} of {song.clip_s:g} s"]
    for stem in STEMS:
        lu = song.values[relative_column(stem)]
        if not song.has(stem):
            lines.append(f"{stem}: absent ({-lu:.0f} LU below the mix; {-ABSENT_LU:.0f} LU or more counts as absent)")
            continue
        side = "below" if lu < 0 else "above"
        among = _among(song, relative_column(stem), songs)
        masked = song.values[COLUMN[f"{stem}_masked_share"]]
        covered = f"{masked:.0%} of it masked"
        shares = {o: song.values[COLUMN[f"{stem}_masked_by_{o}_share"]] for o in STEMS if o != stem and song.has(o)}
        if shares:
            most = max(shares, key=shares.__getitem__)
            covered += f", most by {most} ({shares[most]:.0%})"
        lines.append(f"{stem}: {abs(lu):.1f} LU {side} the mix{among}; {covered}")
    return lines


def _among(song: DescribedSong, column: int, songs: int) -> str:
    percentile = song.percentiles[column]
    return "" if math.isnan(percentile) else f", {ordinal(percentile)} percentile of {songs} songs"


def _table(song: DescribedSong, songs: int) -> Table:
    """A row a descriptor, a column a stem: value, and percentile where there is one."""
    caption = f"small numbers: percentile among {songs} cached songs that have the stem" if songs else None
    if 0 < songs < FEW_SONGS:
        caption = f"{caption}; so few songs say little"
    title = Text(printable(song.name))  # its brackets and colons are no markup
    table = Table(title=title, title_justify="left", caption=caption, box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("unit", style="dim")
    for stem in STEMS:
        table.add_column(stem if song.has(stem) else f"{stem} (absent)", justify="right")
    add_descriptor_rows(table, partial(_cell, song))
    return table


def _cell(song: DescribedSong, column: int | None) -> str:
    if column is None or not is_meaningful(column, song.values):
        return "[dim]-[/dim]     "
    percentile = song.percentiles[column]
    text = shown(column, song.values[column])
    return f"{text} [dim]{'' if math.isnan(percentile) else ordinal(percentile):>5}[/dim]"
