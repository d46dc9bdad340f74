"""One page about a song's mix, as PNG: loudness balance, stereo width, masking, and the band curve of each stem.

In every panel the song is drawn over what the cached songs do: a band from their 10th to their 90th percentile, and
their median. Stems that a song has not are left out and said to be.
"""

from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullLocator
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import relative_column
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ, REGIONS_HZ
from mixstyle.pipeline.descriptors.table import COLUMN, columns
from mixstyle.stages.presentation.figures import FAINT, GREY, STEM_COLOURS, STYLE, label, save
from mixstyle.stages.songs.describe.song import CachedSongs, DescribedSong, ordinal

BAND = (10, 90)
"""Percentiles of the cached songs that the shaded bands span."""
LOUDNESS_LU = (-30.0, 3.0)
CURVE_DB = (-50.0, 0.0)
LEAST_SONGS = 5
"""Fewer cached songs make no band."""


def page(path: Path, song: DescribedSong, cached: CachedSongs | None) -> None:
    """Writes the page."""
    with rc_context({**STYLE, "font.size": 10.5}):
        save(draw(song, cached), path)


def draw(song: DescribedSong, cached: CachedSongs | None) -> Figure:
    """The page as a figure."""
    if cached is not None and len(cached.values) < LEAST_SONGS:
        cached = None
    figure = Figure(figsize=(13.2, 8.6))
    grid = figure.add_gridspec(2, 12, left=0.07, right=0.975, top=0.84, bottom=0.09, hspace=0.5, wspace=2.2)
    _loudness(figure.add_subplot(grid[0, :4]), song, cached)
    _width(figure.add_subplot(grid[0, 4:8]), song, cached)
    _masking(figure.add_subplot(grid[0, 8:]), song)
    for place, stem in enumerate(STEMS):
        _curve(figure.add_subplot(grid[1, 3 * place : 3 * place + 3]), song, cached, stem, first=place == 0)
    measured = f"{song.clips} clips of {song.clip_s:g} s" if song.clips > 1 else f"{song.clip_s:.1f} s"
    figure.text(0.02, 0.965, label(song.name, 80), fontsize=16, fontweight="bold", va="center")
    figure.text(0.02, 0.928, f"{song.loudness} · stems: {measured}", color=GREY, va="center")
    handles: list[Artist] = [Line2D([], [], color="black", marker="o", linewidth=2, label="this song")]
    if cached is not None:
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, label=f"median of {len(cached.values)} songs"))
        handles.append(Patch(color=FAINT, label="where 8 of 10 songs are"))
    figure.legend(handles=handles, loc="upper right", bbox_to_anchor=(0.98, 0.985), ncols=len(handles))
    return figure


def _span(cached: CachedSongs, columns: list[int]) -> NDArray[np.float64] | None:
    """[3, n]: lower edge, median, upper edge of the cached songs; None where too few have the stem."""
    songs = [cached.of(column) for column in columns]
    if min(map(len, songs)) < LEAST_SONGS:
        return None
    return np.stack([np.percentile(values.astype(np.float64), (BAND[0], 50, BAND[1])) for values in songs], axis=1)


def _loudness(axes: Axes, song: DescribedSong, cached: CachedSongs | None) -> None:
    axes.set_title("How loud is each stem?")
    low, high = LOUDNESS_LU
    for row, stem in enumerate(STEMS):
        column = relative_column(stem)
        value = float(song.values[column])
        span = _span(cached, [column]) if cached is not None else None
        if span is not None:
            left, middle, right = np.clip(span[:, 0], low, high)
            axes.barh(row, right - left, left=left, height=0.56, color=FAINT)
            axes.plot([middle, middle], [row - 0.28, row + 0.28], color=GREY, linewidth=1.2)
        percentile = song.percentiles[column]
        if song.has(stem):
            shown = min(max(value, low), high)
            marker = "<" if value < low else "o"
            axes.plot(shown, row, marker, color=STEM_COLOURS[stem], markersize=10, clip_on=False, zorder=3)
            told = f"{value:+.1f} LU" + ("" if np.isnan(percentile) else f" · {ordinal(percentile)} percentile")
        else:
            told = "absent"
        axes.text(low + 0.3, row - 0.42, told, fontsize=9, va="center", color="black" if song.has(stem) else GREY)
    axes.set_yticks(range(len(STEMS)), STEMS)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(len(STEMS) - 0.4, -0.7)
    axes.set_xlim(low, high)
    axes.axvline(0, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("loudness against the whole mix, LU")


def _width(axes: Axes, song: DescribedSong, cached: CachedSongs | None) -> None:
    axes.set_title("How wide is it?")
    names = [name for name, _, _ in REGIONS_HZ]
    for place, stem in enumerate(STEMS):
        widths = [column for name in names for column in columns(stem=stem, group="stereo", region=name)]
        levels = [column for name in names for column in columns(stem=stem, group="spectral", region=name)]
        x = np.arange(len(names)) + (place - 1.5) * 0.2
        span = _span(cached, widths) if cached is not None else None
        if span is not None:
            edges = side_share(span)
            axes.bar(x, edges[0] - edges[2], bottom=edges[2], width=0.13, color=FAINT)
            axes.hlines(edges[1], x - 0.065, x + 0.065, color=GREY, linewidth=1.2)
        if song.has(stem):
            # a band that the stem has nothing in has no width
            filled = song.values[levels] > CURVE_DB[0]
            share = side_share(song.values[widths])
            axes.plot(x[filled], share[filled], "o", color=STEM_COLOURS[stem], markersize=8, label=stem, zorder=3)
    axes.set_xticks(range(len(names)), ["low\nbelow 250 Hz", "mid", "high\nabove 4 kHz"])
    axes.set_xlim(-0.5, len(names) - 0.5)
    axes.set_ylim(-3, 103)
    axes.set_yticks([0, 25, 50, 75, 100], ["mono 0", "25", "50", "75", "100"])
    axes.axhline(50, color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
    told = "above the line: left and\nright cancel in mono"
    axes.text(len(names) - 0.52, 101, told, fontsize=9, color=GREY, ha="right", va="top", linespacing=1.5)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("side signal's share, %")
    axes.legend(loc="upper left", ncols=2, fontsize=9, handletextpad=0.1, columnspacing=0.8, borderaxespad=0)


def side_share(mid_side_db: NDArray[np.floating]) -> NDArray[np.float64]:
    """The side signal's share of the energy in percent, from the ratio of mid to side in dB: 0 for mono."""
    return 100 / (1 + 10 ** (np.asarray(mid_side_db, dtype=np.float64) / 10))


def _masking(axes: Axes, song: DescribedSong) -> None:
    axes.set_title("Which stem masks which?")
    matrix = np.full((len(STEMS), len(STEMS) + 1), np.nan)
    for row, stem in enumerate(STEMS):
        if song.has(stem):
            for column, other in enumerate(STEMS):
                if other != stem and song.has(other):
                    matrix[row, column] = 100 * song.values[COLUMN[f"{stem}_masked_by_{other}_share"]]
            matrix[row, -1] = 100 * song.values[COLUMN[f"{stem}_masked_share"]]
    axes.imshow(matrix, cmap="Oranges", vmin=0, vmax=100, aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            colour = "white" if value > 65 else "black"
            weight = "bold" if column == len(STEMS) else "normal"
            axes.text(column, row, f"{value:.0f}%", ha="center", va="center", color=colour, fontweight=weight)
        elif not song.has(STEMS[row]) and column == 0:
            axes.text(2, row, "absent", ha="center", va="center", color=GREY)
    axes.axvline(len(STEMS) - 0.5, color="white", linewidth=4)
    axes.set_xticks(range(len(STEMS) + 1), [*STEMS, "all three"])
    axes.set_yticks(range(len(STEMS)), STEMS)
    axes.xaxis.tick_bottom()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.set_xlabel("share of the row's stem that is masked by ...")


def _curve(axes: Axes, song: DescribedSong, cached: CachedSongs | None, stem: str, first: bool) -> None:
    octaves = [column for hz in OCTAVES_HZ for column in columns(stem=stem, octave_hz=hz)]
    axes.set_title(stem, color=STEM_COLOURS[stem])
    low, high = CURVE_DB
    span = _span(cached, octaves) if cached is not None else None
    if span is not None:
        shown = np.clip(span, low - 5, high)
        axes.fill_between(OCTAVES_HZ, shown[0], shown[2], color=FAINT, linewidth=0)
        axes.plot(OCTAVES_HZ, shown[1], color=GREY, linewidth=1.2)
    if song.has(stem):
        curve = np.clip(song.values[octaves], low - 5, high)
        axes.plot(OCTAVES_HZ, curve, "o-", color=STEM_COLOURS[stem], linewidth=2.2, markersize=5)
        tilt = song.values[COLUMN[f"{stem}_tilt_db_per_octave"]]
        axes.text(0.97, 0.95, f"{tilt:+.1f} dB/octave", transform=axes.transAxes, ha="right", va="top", fontsize=9)
    else:
        axes.text(0.5, 0.5, "absent", transform=axes.transAxes, ha="center", va="center", color=GREY)
    axes.set_xscale("log")
    axes.set_xlim(26, 19_500)
    axes.xaxis.set_major_locator(FixedLocator([50, 200, 1000, 5000]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels(["50", "200", "1k", "5k"])
    axes.set_ylim(low, high + 2)
    axes.set_xlabel("Hz")
    if first:
        axes.set_ylabel("octave's level against\nall of the stem, dB")
