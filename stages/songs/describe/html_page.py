"""One page about a song's mix, as HTML that stands alone: sentences, the figure, and every value."""

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mixstyle.cache.storage.atomic import write_text
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import printable
from mixstyle.pipeline.descriptors.absent_stems import is_meaningful
from mixstyle.stages.presentation.descriptor_names import KINDS, Kind, shown, shown_unit
from mixstyle.stages.presentation.html import PageFigure, Section, Table, page
from mixstyle.stages.songs.describe.png_page import page as draw_page
from mixstyle.stages.songs.describe.song import CachedSongs, DescribedSong, ordinal
from mixstyle.stages.songs.describe.text import sentences


def html_page(path: Path, song: DescribedSong, cached: CachedSongs | None, links: Sequence[tuple[str, str]]) -> None:
    """Writes the page. links: names and addresses of other pages."""
    write_text(path, html_text(song, cached, links))


def html_text(song: DescribedSong, cached: CachedSongs | None, links: Sequence[tuple[str, str]] = ()) -> str:
    """The page: equal songs and links give equal text."""
    songs = len(cached.values) if cached is not None else 0
    first, *rest = [printable(line) for line in sentences(song, songs)]
    caption = "By stem: loudness against the mix, width by band, masking, and the level of each octave."
    if songs:
        caption += f" Grey: where the {songs} cached songs are."
    told = f"Small print: percentile among {songs} cached songs that have the stem." if songs else ""
    with tempfile.TemporaryDirectory() as folder:
        figure = Path(folder) / "song.png"
        draw_page(figure, song, cached)
        alt = "Loudness balance, stereo width, masking and octave curves of the four stems"
        sections = [
            Section("In words", rest),
            Section("In pictures", figures=[PageFigure(figure, alt, caption)]),
            Section("In numbers", [told] if told else [], tables=[_table(song, group) for group in KINDS]),
        ]
        return page(printable(song.name), first, sections, links)


def _table(song: DescribedSong, group: str) -> Table:
    head = ["", "unit", *(stem if song.has(stem) else f"{stem} (absent)" for stem in STEMS)]
    rows = [
        (kind.title, [(shown_unit(kind.descriptor.unit), ""), *(_cell(song, kind, stem) for stem in STEMS)])
        for kind in KINDS[group]
    ]
    return Table(group.capitalize(), head, rows)


def _cell(song: DescribedSong, kind: Kind, stem: str) -> tuple[str, str]:
    column = kind.columns.get(stem)
    if column is None or not is_meaningful(column, song.values):
        return "-", ""
    percentile = song.percentiles[column]
    return shown(column, song.values[column]), "" if math.isnan(percentile) else ordinal(percentile)
