"""What a search has found as text: in the terminal, as JSON and as CSV."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mixstyle.pipeline.core.text import as_utf8, counted, printable
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.stages.presentation.values import as_csv, percent, rounded

if TYPE_CHECKING:
    pass  # brings torch
from mixstyle.stages.songs.search.matches import Difference, Match, Query, score_name

VERSION = 1
"""Of the JSON file."""


def matches_as_json(query: Query, found: Sequence[Match], songs: int, stem: str = "") -> dict[str, Any]:
    """What is found, as JSON has it. songs: how many the index holds. stem: what was searched by."""

    def told(differences: Sequence[Difference]) -> list[dict[str, Any]]:
        return [
            {
                "name": DESCRIPTORS[one.column].name,
                "unit": DESCRIPTORS[one.column].unit,
                "query": rounded(one.query),
                "song": rounded(one.found),
                "share_nearer": rounded(one.share),
            }
            for one in differences
        ]

    return {
        "version": VERSION,
        "query": {"song": as_utf8(query.name), "loudness": query.loudness.to_json() if query.loudness else None},
        "songs_in_index": songs,
        "stem": stem or None,
        "songs": [
            {
                "rank": rank,
                "path": as_utf8(match.song.path),
                score_name(stem): rounded(match.score),
                "closer_than": rounded(match.closer_than),
                "loudness_lufs": rounded(match.song.loudness_lufs),
                "most_alike_in": told(match.alike),
                "most_apart_in": told(match.apart),
            }
            for rank, match in enumerate(found, 1)
        ],
    }


def matches_as_csv(found: Sequence[Match], stem: str = "") -> str:
    """What is found, a row a song. stem: what was searched by."""
    head = ("rank", "path", score_name(stem), "closer_than", "loudness_lufs", "most_alike_in", "most_apart_in")
    rows = [
        (
            rank,
            as_utf8(match.song.path),
            rounded(match.score),
            rounded(match.closer_than),
            rounded(match.song.loudness_lufs),
            *(" ".join(DESCRIPTORS[one.column].name for one in side) for side in (match.alike, match.apart)),
        )
        for rank, match in enumerate(found, 1)
    ]
    return as_csv(head, rows)


def show(path: Path, query: Query, found: list[Match], songs: int, stem: str) -> None:
    """Prints a table, a row a song. songs: how many the index holds. stem: what was searched by; empty for the mix."""
    pairs = "closer than: share of the index's pairs of songs that are farther apart"
    caption = f"{pairs}; values: the query's / the song's"
    if stem:
        told = f"distance: of the stem's own descriptors, in robust standard deviations over songs with {stem}"
        caption = f"{told}\n{caption}"
    level = f" ({query.loudness.loudness_lufs:.1f} LUFS)" if query.loudness else ""
    what = f"{stem} mixed like that of" if stem else "mixed like"
    title = Text(f"{what} {printable(path.name)}{level}, of {counted(songs, 'song')}")
    table = Table(title=title, title_justify="left", caption=caption, box=None)
    table.add_column("", justify="right")
    table.add_column(score_name(stem), justify="right")
    table.add_column("closer than", justify="right")
    table.add_column("LUFS", justify="right")
    table.add_column("song", overflow="fold")
    table.add_column("most alike in", overflow="fold")
    table.add_column("most apart in", overflow="fold")
    for rank, match in enumerate(found, 1):
        alike, apart = ("\n".join(map(str, side)) for side in (match.alike, match.apart))
        level = "-" if math.isnan(match.song.loudness_lufs) else f"{match.song.loudness_lufs:.1f}"
        near = (f"{match.score:.3f}", percent(match.closer_than), level)
        table.add_row(str(rank), *near, Text(printable(match.song.path)), alike, apart)
    Console(width=None if Console().is_terminal else 150).print(table)
