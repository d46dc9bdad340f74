"""A comparison as a picture: distances of stems and groups, and what differs most."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.descriptors.table import GROUPS
from mixstyle.stages.presentation.audible_differences import in_words, is_heard
from mixstyle.stages.presentation.descriptor_names import shown, shown_unit
from mixstyle.stages.presentation.figures import FAINT, GREY, STEM_COLOURS, label
from mixstyle.stages.songs.compare.comparison import Comparison

MOST_BARS = 16


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
