"""The table of a song's descriptors, and a sentence a stem."""

import math
import sys

from rich.console import Console
from rich.table import Table

from mixstyle.pipeline.descriptors import DESCRIPTORS
from mixstyle.pipeline.stems import STEMS
from mixstyle.stages.describe_song import COLUMN, DescribedSong, is_loudness, mix_lufs, ordinal, relative_column
from mixstyle.stages.report_descriptors import kinds, title

PLAIN_WIDTH = 110
"""Of tables where there is no terminal."""


def print_song(song: DescribedSong, songs: int) -> None:
    """Prints a song's table and sentences. songs: how many cached ones its percentiles are among."""
    console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH, highlight=False)
    console.print(_table(song, songs))
    for line in sentences(song, songs):
        console.print(line, markup=False)


def sentences(song: DescribedSong, songs: int) -> list[str]:
    """What the table says first, in words: a line for the mix and one for each stem."""
    clips = f"{song.clips} clips" if song.clips > 1 else "a clip"
    lines = [f"{song.name}: {mix_lufs(song):.1f} LUFS, the median of {clips} of {song.clip_s:g} s"]
    for stem in STEMS:
        lu = song.values[relative_column(stem)]
        if not song.has(stem):
            lines.append(f"{stem}: not there ({-lu:.0f} LU or more below the mix)")
            continue
        side = "below" if lu < 0 else "above"
        among = _among(song, relative_column(stem), songs)
        masked = song.values[COLUMN[f"{stem}_masked_share"]]
        others = {o: song.values[COLUMN[f"{stem}_masked_by_{o}_share"]] for o in STEMS if o != stem}
        most = max(others, key=others.__getitem__)
        covered = f"{masked:.0%} of it masked, most by {most} ({others[most]:.0%})"
        lines.append(f"{stem}: {abs(lu):.1f} LU {side} the mix{among}; {covered}")
    return lines


def _among(song: DescribedSong, column: int, songs: int) -> str:
    percentile = song.percentiles[column]
    return "" if math.isnan(percentile) else f", {ordinal(percentile)} percentile of {songs} songs"


def _table(song: DescribedSong, songs: int) -> Table:
    """A row a descriptor, a column a stem: value, and percentile where there is one."""
    caption = f"small numbers: percentile among {songs} cached songs that have the stem" if songs else None
    table = Table(title=song.name, title_justify="left", caption=caption, box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("unit", style="dim")
    for stem in STEMS:
        table.add_column(stem if song.has(stem) else f"{stem} (not there)", justify="right")
    rows = [{"group": d.group, "stem": d.stem, "name": d.name, "unit": d.unit} for d in DESCRIPTORS]
    for group in dict.fromkeys(d.group for d in DESCRIPTORS):
        table.add_section()
        table.add_row(f"[bold]{group}[/bold]")
        for kind in kinds(rows, group):
            cells = [_cell(song, stem, kind.columns.get(stem)) for stem in STEMS]
            table.add_row(f"  {title(kind.name)}", kind.unit if kind.unit != "1" else "", *cells)
    return table


def _cell(song: DescribedSong, stem: str, column: int | None) -> str:
    if column is None or not (song.has(stem) or is_loudness(column)):
        return "[dim]-[/dim]     "
    unit, value = DESCRIPTORS[column].unit, song.values[column]
    text = f"{value:.2f}" if unit in ("1", "dB/octave") else f"{value:.1f}"
    percentile = song.percentiles[column]
    return f"{text} [dim]{'' if math.isnan(percentile) else ordinal(percentile):>5}[/dim]"
