"""The page of a match: each stem's octaves before, after and of the reference, with what is set, and the balance."""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import has_stem, relative_column
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.table import columns
from mixstyle.stages.presentation.figures import FAINT, GREY, STEM_COLOURS, STYLE, label, save
from mixstyle.stages.songs.match.render import RenderedSong
from mixstyle.stages.songs.match.song_match import SongMatch, Values
from mixstyle.stages.songs.match.text import last_gain

CURVE_DB = (-50.0, 2.0)
_TEXT_COLUMNS = 58


def draw_page(path: Path, matched: SongMatch, after: Values, rendered: RenderedSong) -> None:
    """Writes the page as PNG."""
    with rc_context(STYLE):
        save(draw(matched, after, rendered), path)


def draw(matched: SongMatch, after: Values, rendered: RenderedSong) -> Figure:
    """The page as a figure."""
    figure = Figure(figsize=(12, 9.5), layout="constrained")
    references = matched.chain.made.get("references", [])
    told = label(str(references[0]), 40) if len(references) == 1 else f"the mean of {len(references)} songs"
    figure.suptitle(f"{label(matched.clips.name, 40)}, brought to {told}", fontsize=14, fontweight="bold")
    axes = figure.subplots(3, 2)
    for place, stem in enumerate(STEMS):
        _curves(axes.flat[place], matched, after, place, stem)
    _balance(axes[2, 0], matched, after)
    _levels(axes[2, 1], matched, rendered)
    return figure


def _curves(axes: Axes, matched: SongMatch, after: Values, place: int, stem: str) -> None:
    strip = "\n".join(textwrap.wrap(str(matched.chain.strips[place]), _TEXT_COLUMNS))
    axes.set_title(f"{stem}: {strip}", fontsize=10)
    chosen = [column for hz in OCTAVES_HZ for column in columns(stem=stem, octave_hz=hz)]
    x = np.arange(len(chosen))
    rows = (
        ("reference", matched.reference, {"color": GREY, "linestyle": (0, (4, 3))}),
        ("before", matched.before, {"color": FAINT, "linewidth": 3}),
        ("after", after, {"color": STEM_COLOURS[stem], "linewidth": 2}),
    )
    for name, values, style in rows:
        if has_stem(values, stem):
            axes.plot(x, np.maximum(values[chosen], CURVE_DB[0]), label=name, **style)
    axes.set_xticks(x, [f"{int(hz + 0.5)}" if hz < 1000 else f"{hz / 1000:.0f}k" for hz in OCTAVES_HZ])
    axes.set_ylim(*CURVE_DB)
    axes.set_ylabel("octave against the stem, dB")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=9)
    else:
        axes.text(0.5, 0.5, "absent", transform=axes.transAxes, color=GREY, ha="center")


def _balance(axes: Axes, matched: SongMatch, after: Values) -> None:
    axes.set_title("How loud is each stem?")
    for place, stem in enumerate(STEMS):
        column = relative_column(stem)
        for values, marker, colour in (
            (matched.reference, "D", GREY),
            (matched.before, "o", FAINT),
            (after, "o", STEM_COLOURS[stem]),
        ):
            if has_stem(values, stem):
                axes.plot(float(values[column]), place, marker, color=colour, markersize=9)
    axes.set_yticks(range(len(STEMS)), STEMS)
    axes.set_ylim(len(STEMS) - 0.5, -0.5)
    axes.set_xlabel("loudness against the whole mix, LU; grey diamond: reference, light: before, colour: after")
    axes.grid(axis="y", visible=False)


def _levels(axes: Axes, matched: SongMatch, rendered: RenderedSong) -> None:
    axes.set_axis_off()
    told = [
        f"before: {rendered.before}",
        f"after: {rendered.after}",
        *(f"reference: {one}" for one in matched.reference_loudness[:4]),
        *([f"on the mix: {matched.chain.mix}"] if matched.chain.mix.changes else []),
        last_gain(rendered, matched.chain.reference_lufs),
        *(f"note: {note}" for note in matched.chain.notes),
    ]
    wrapped = "\n".join(line for one in told for line in textwrap.wrap(label(one, 400), _TEXT_COLUMNS + 12))
    axes.text(0, 1, wrapped, transform=axes.transAxes, va="top", fontsize=9, linespacing=1.5)
