"""`mixstyle compare`: how two songs' mixes differ, in a sentence, as a distance, stem by stem and by descriptors."""

import math
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from mixstyle.cache.song_index.index import share_farther
from mixstyle.cache.storage.atomic import write_json, write_text
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import as_utf8, printable
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.presence import has_stem, is_meaningful
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.pipeline.descriptors.table import GROUPS
from mixstyle.stages.common.outputs import write_or_keep
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.presentation.descriptor_names import shown, shown_unit
from mixstyle.stages.presentation.descriptor_tables import add_descriptor_rows
from mixstyle.stages.presentation.figures import FAINT, GREY, STEM_COLOURS, STYLE, label, save
from mixstyle.stages.presentation.heard import HeardDifference, heard_differences, in_words, is_heard
from mixstyle.stages.presentation.terminal import output
from mixstyle.stages.presentation.values import as_csv, percent, rounded
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.embedder import EmbeddedSong, Embedder
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.given import check_song
from mixstyle.stages.songs.index.stage import pairs_of_index
from mixstyle.stages.songs.names import distinct_names, refuse_clashes

VERSION = 1
"""Of the JSON file."""
_COLUMNS = ("name", "group", "stem", "unit", "first", "second", "deviations_apart")
MOST_BARS = 16
FAR = 2.0
"""Differences above this many robust standard deviations are told in bold."""


@dataclass(frozen=True, repr=False)
class Comparison:
    """Two songs. names, values [2, D] and loudness of each. cosine: of their embeddings. deviation: robust standard
    deviation of each descriptor over the songs that the encoder was trained on [D]. closer_than: the share of an
    index's pairs of songs that are farther apart; NaN without an index."""

    names: tuple[str, str]
    values: NDArray[np.float32]
    cosine: float
    deviation: NDArray[np.float32]
    loudness: tuple[SongLoudness | None, SongLoudness | None] = (None, None)
    closer_than: float = math.nan

    def __repr__(self) -> str:
        return f"Comparison({self.names[0]!r}, {self.names[1]!r}, cosine {self.cosine:.3f})"

    @cached_property
    def counted(self) -> NDArray[np.bool_]:
        """Descriptors of stems that both have, and loudness [D]."""
        return np.array([is_meaningful(column, *self.values) for column in range(len(DESCRIPTORS))])

    @cached_property
    def apart(self) -> NDArray[np.float32]:
        """Second minus first, in deviations; 0 where it does not count."""
        return np.where(self.counted, (self.values[1] - self.values[0]) / self.deviation, 0.0).astype(np.float32)

    @cached_property
    def heard(self) -> list[HeardDifference]:
        """What is heard of the second against the first, the largest difference first; their loudness is no part."""
        return heard_differences(*self.values)

    def distance(self, stem: str, group: str | None = None) -> float:
        """Root mean square of a stem's differences, in deviations; NaN where none counts."""
        chosen = [
            column
            for column, d in enumerate(DESCRIPTORS)
            if d.stem == stem and self.counted[column] and group in (None, d.group)
        ]
        return float(np.sqrt(np.square(self.apart[chosen]).mean())) if chosen else float("nan")

    def has(self, song: int, stem: str) -> bool:
        """Whether the first (0) or the second (1) has a stem to speak of."""
        return has_stem(self.values[song], stem)


def compare(
    settings: Settings,
    first: Path,
    second: Path,
    png: Path | None = None,
    json_path: Path | None = None,
    csv_path: Path | None = None,
) -> Comparison:
    """Compares two songs (files, or folders of stems), prints tables, and writes the files that are asked for.

    Raises MixstyleError for songs that cannot be read, and, before any work, for files that cannot be written.
    """
    if png is not None and png.suffix.lower() != ".png":
        raise MixstyleError(f"{png}: should end in .png", code="bad-option")
    for path in (png, json_path, csv_path):
        if path is not None:
            check_file(path)
    refuse_clashes([png, json_path, csv_path], [first, second])
    for song in (first, second):
        check_song(song)
    names = distinct_names([first, second])
    with embedder_of(settings, measure=True) as embedder:
        with progress("compare", 2, "songs", brief=True) as bar:
            songs = []
            for path in (first, second):
                songs.append(embedder.song(path))
                bar.advance()
        pairs = pairs_of_index(settings, embedder)
        found = comparison(embedder, songs[0], songs[1], pairs, names=(names[0], names[1]))
    show(found)
    if json_path is not None:
        write_or_keep(json_path, lambda path: write_json(path, comparison_as_json(found)))
    if csv_path is not None:
        write_or_keep(csv_path, lambda path: write_text(path, comparison_as_csv(found)))
    if png is not None:
        with rc_context(STYLE):
            figure = draw(found)
            write_or_keep(png, lambda path: save(figure, path))
    for path in (png, json_path, csv_path):
        if path is not None:
            say(f"compare: wrote {path}")
    return found


def comparison(
    embedder: Embedder,
    first: EmbeddedSong,
    second: EmbeddedSong,
    pairs: NDArray[np.float32] | None = None,
    *,
    names: tuple[str, str] | None = None,
) -> Comparison:
    """Two songs that were embedded by one embedder. pairs: cosines that theirs is told among, ascending. names: what
    the songs are called, if not as they are."""
    deviation = embedder.encoder.encoder.descriptor_scale.cpu().numpy()
    cosine = float(first.embedding @ second.embedding)
    return Comparison(
        names or (first.name, second.name),
        np.stack([first.values, second.values]),
        cosine,
        np.maximum(deviation, 1e-6),
        (first.loudness, second.loudness),
        math.nan if pairs is None else share_farther(pairs, cosine),
    )


def comparison_as_json(found: Comparison) -> dict[str, Any]:
    """The comparison, as JSON has it; differences are in robust standard deviations."""
    rows = [dict(zip(_COLUMNS, row, strict=True)) for row in _rows(found)]
    return {
        "version": VERSION,
        "songs": [as_utf8(name) for name in found.names],
        "heard": [
            {"stem": d.stem, "aspect": d.aspect, "change": d.change, "steps": d.steps, "text": d.text}
            for d in found.heard
        ],
        "cosine": rounded(found.cosine),
        "closer_than": rounded(found.closer_than),
        "loudness": [loudness.to_json() if loudness else None for loudness in found.loudness],
        "distances": {
            stem: {group or "all": rounded(found.distance(stem, group)) for group in (*GROUPS, None)} for stem in STEMS
        },
        "descriptors": rows,
    }


def comparison_as_csv(found: Comparison) -> str:
    """A row a descriptor: the values of both, and how far they are apart."""
    return as_csv(_COLUMNS, _rows(found))


def _rows(found: Comparison) -> list[tuple[Any, ...]]:
    return [
        (
            *(d.name, d.group, d.stem, d.unit, rounded(found.values[0, column]), rounded(found.values[1, column])),
            rounded(found.apart[column]) if found.counted[column] else None,
        )
        for column, d in enumerate(DESCRIPTORS)
    ]


def show(found: Comparison) -> None:
    """Prints what is heard, the distance, a table of stems, and one of descriptors."""
    console = output()
    names = [printable(name) for name in found.names]
    console.print(Text(f"{names[1]}, against {names[0]}: {in_words(found.heard)}"))
    near = f"; closer than {percent(found.closer_than)} of the index's pairs of songs"
    near = "" if math.isnan(found.closer_than) else near
    console.print(Text(f"{names[0]} and {names[1]}: cosine {found.cosine:.3f}{near}"))
    for name, loudness in zip(names, found.loudness, strict=True):
        if loudness is not None:
            console.print(Text(f"{name}: {loudness}"))
    stems = Table(
        title="how far apart, in robust standard deviations of the training songs", title_justify="left", box=None
    )
    for column in ("", *GROUPS, "all"):
        stems.add_column(column, justify="right" if column else "left")
    for stem in STEMS:
        cells = [found.distance(stem, group) for group in (*GROUPS, None)]
        stems.add_row(stem, *("-" if np.isnan(cell) else f"{cell:.2f}" for cell in cells))
    console.print(stems)
    caption = f"first / second; bold: more than {FAR:g} robust standard deviations apart"
    table = Table(title="descriptor by descriptor", title_justify="left", box=None, caption=caption)
    table.add_column("")
    table.add_column("unit", style="dim")
    for stem in STEMS:
        table.add_column(stem, justify="right")
    add_descriptor_rows(table, partial(_cell, found))
    console.print(table)


def _cell(found: Comparison, column: int | None) -> str:
    if column is None or not found.counted[column]:
        return "[dim]-[/dim]"
    text = shown(column, *found.values[:, column])
    return f"[bold]{text}[/bold]" if abs(found.apart[column]) > FAR else text


def draw(found: Comparison) -> Figure:
    """The page: how far apart each stem is in each group, and the descriptors that differ most."""
    figure = Figure(figsize=(11.5, 6.4))
    grid = figure.add_gridspec(1, 2, width_ratios=(1, 1.5), left=0.08, right=0.97, top=0.8, bottom=0.11, wspace=0.75)
    names = [label(name, 48) for name in found.names]
    figure.text(0.02, 0.95, f"{names[0]}  →  {names[1]}", fontsize=14, fontweight="bold", va="center")
    figure.text(0.02, 0.905, label(f"the second: {in_words(found.heard[:3])}", 150), va="center")
    figure.text(0.02, 0.87, f"cosine of their embeddings {found.cosine:.3f}", color=GREY, va="center")
    _matrix(figure.add_subplot(grid[0, 0]), found)
    _bars(figure.add_subplot(grid[0, 1]), found)
    return figure


COLOURS = "Purples"
"""Of distances: from nearly white to a dark purple."""


def _ink(share: float) -> str:
    """The colour of a figure on the colour that stands for this share of the largest value."""
    return "white" if share > 0.62 else "black"


def _matrix(axes: Axes, found: Comparison) -> None:
    values = np.array([[found.distance(stem, group) for group in GROUPS] for stem in STEMS])
    top = max(3.0, float(np.nanmax(values)))
    axes.imshow(np.nan_to_num(values), cmap=COLOURS, vmin=0, vmax=top, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        text = "-" if np.isnan(value) else f"{value:.1f}"
        axes.text(column, row, text, ha="center", va="center", color=_ink(value / top))
    axes.set_xticks(range(len(GROUPS)), GROUPS)
    axes.set_yticks(range(len(STEMS)), STEMS)
    axes.set_title("Distance, in robust standard deviations")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def _bars(axes: Axes, found: Comparison) -> None:
    heard = np.array([is_heard(column, *found.values) for column in range(len(DESCRIPTORS))])
    order = np.argsort(-np.where(heard, np.abs(found.apart), -1.0), kind="stable")[:MOST_BARS][::-1]
    for place, column in enumerate(order):
        d = DESCRIPTORS[column]
        axes.barh(place, found.apart[column], color=STEM_COLOURS[d.stem], height=0.7)
        before, after = (shown(column, value) for value in found.values[:, column])
        text = f"{before} → {after} {shown_unit(d.unit)}".rstrip()
        axes.annotate(
            text,
            (float(found.apart[column]), place),
            (4 if found.apart[column] >= 0 else -4, 0),
            textcoords="offset points",
            ha="left" if found.apart[column] >= 0 else "right",
            va="center",
            fontsize=7.5,
            color=GREY,
        )
    names = [f"{DESCRIPTORS[column].stem}: {DESCRIPTORS[column].title}" for column in order]
    axes.set_yticks(range(len(order)), names, fontsize=8.5)
    far = 1.9 * max(1.0, float(np.abs(found.apart).max()))
    axes.set_xlim(-far, far)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("second minus first, in robust standard deviations of the training songs")
    axes.set_title("What differs most, of what is heard")
