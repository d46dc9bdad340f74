"""The report's figures of descriptors: one a group, their distributions by stem.

Works from the table of descriptors, so new ones appear by themselves; octaves are drawn as one curve a stem, and shares
that tell of another stem as one matrix.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.presentation.descriptor_names import KINDS, Kind
from mixstyle.stages.presentation.figures import STEM_COLOURS, STYLE, save

_COLUMNS = 3
_WIDTH_IN = 10.4
_ROW_IN = 1.95
_CURVES_IN = 2.9
_MATRIX_IN = 4.0


def group_figure(path: Path, values: NDArray[np.floating], group: str) -> bool:
    """Draws the distributions of a group's descriptors over clips `[N, D]`; False where no clip has any.

    Rows with NaN (clips that failed) are left out.
    """
    values = values[np.isfinite(values).all(axis=1)]
    every = KINDS[group]
    if not len(values):
        return False
    octaves = [kind for kind in every if kind.descriptor.octave_hz is not None]
    masked_by = [kind for kind in every if kind.descriptor.other_stem is not None]
    boxes = [kind for kind in every if kind not in octaves and kind not in masked_by]
    columns = 1 if masked_by else _COLUMNS
    box_rows = -(-len(boxes) // columns)
    box_in = max(box_rows * _ROW_IN, _MATRIX_IN if masked_by else 0.0)
    heights = [height for height in (box_in, _CURVES_IN if octaves else 0.0) if height]
    with rc_context(STYLE):
        layout = ConstrainedLayoutEngine(h_pad=0.08, w_pad=0.1)
        figure = Figure(figsize=(_WIDTH_IN, sum(heights)), layout=layout)
        parts = iter(figure.add_gridspec(len(heights), 1, height_ratios=heights))
        if box_in:
            # The matrix is beside the panels, which are then one column.
            left, right = next(parts).subgridspec(1, 2, width_ratios=[1, 1.7]) if masked_by else (next(parts), None)
            _boxes(figure, left, boxes, values, columns)
            if right is not None:
                _matrix(figure, right, masked_by, values)
        if octaves:
            _curves(figure, next(parts), octaves, values)
        save(figure, path)
    return True


def _boxes(
    figure: Figure, place: SubplotSpec, found: Sequence[Kind], values: NDArray[np.floating], columns: int
) -> None:
    """A panel a descriptor: for each stem the median, the middle half and the middle 90% of the clips."""
    grid = place.subgridspec(max(1, -(-len(found) // columns)), columns)
    for index, kind in enumerate(found):
        axes = figure.add_subplot(grid[index // columns, index % columns])
        for height, stem in enumerate(reversed(STEMS)):
            if stem not in kind.columns:
                continue
            low, q1, median, q3, high = np.percentile(values[:, kind.columns[stem]], [5, 25, 50, 75, 95])
            colour = STEM_COLOURS[stem]
            axes.plot([low, high], [height, height], color=colour, linewidth=1.6, solid_capstyle="butt")
            axes.plot([q1, q3], [height, height], color=colour, linewidth=9, alpha=0.55, solid_capstyle="butt")
            axes.plot([median, median], [height - 0.34, height + 0.34], color="black", linewidth=1.8)
        axes.set_yticks(range(len(STEMS)), list(reversed(STEMS)))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(-0.6, len(STEMS) - 0.4)
        axes.grid(axis="y", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_title(kind.title)
        axes.set_xlabel(_unit(kind))


def _unit(kind: Kind) -> str:
    if kind.descriptor.unit == "1":
        return {"masking": "share of the stem's tiles", "stereo": "from -1 to 1"}.get(kind.descriptor.group, "")
    return kind.descriptor.unit


def _curves(figure: Figure, place: SubplotSpec, found: Sequence[Kind], values: NDArray[np.floating]) -> None:
    """A panel a stem: level of each octave against the whole stem."""
    centres = [kind.descriptor.octave_hz or 0.0 for kind in found]
    grid = place.subgridspec(1, len(STEMS))
    first: Axes | None = None
    for index, stem in enumerate(STEMS):
        axes = figure.add_subplot(grid[0, index], sharey=first)
        first = first or axes
        columns = [kind.columns[stem] for kind in found]
        low, q1, median, q3, high = np.percentile(values[:, columns], [5, 25, 50, 75, 95], axis=0)
        colour = STEM_COLOURS[stem]
        axes.fill_between(centres, low, high, color=colour, alpha=0.15, linewidth=0)
        axes.fill_between(centres, q1, q3, color=colour, alpha=0.35, linewidth=0)
        axes.plot(centres, median, color=colour, linewidth=2)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator([62.5, 250, 1000, 4000, 16000]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticklabels(["63", "250", "1k", "4k", "16k"])
        axes.set_title(f"Octaves, {stem}")
        axes.set_xlabel("Hz")
        if index:
            axes.tick_params(labelleft=False)
        else:
            axes.set_ylabel("level within the stem (dB)")


def _matrix(figure: Figure, place: SubplotSpec, found: Sequence[Kind], values: NDArray[np.floating]) -> None:
    """Median share of a row's stem that the column's stem alone exceeds."""
    share = np.full((len(STEMS), len(STEMS)), np.nan)
    for kind in found:
        for stem, column in kind.columns.items():
            share[STEMS.index(stem), STEMS.index(kind.descriptor.other_stem or stem)] = np.median(values[:, column])
    axes = figure.add_subplot(place)
    image = axes.imshow(share, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    axes.grid(visible=False)
    for (row, column), value in np.ndenumerate(share):
        text = "–" if np.isnan(value) else f"{value:.0%}"
        colour = "black" if np.isnan(value) or value > 0.55 else "white"
        axes.text(column, row, text, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(STEMS)), [f"by {stem}" for stem in STEMS])
    axes.set_yticks(range(len(STEMS)), list(STEMS))
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("Masked share, by each other stem alone (median clip)")
    figure.colorbar(image, ax=axes, label="share of the masked stem's tiles")
