"""The report's figures of retrieval, embeddings and loss, as PNG.

Every function takes plain arrays and a path, writes one file, and gives equal bytes for equal arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mixstyle.pipeline.retrieval import Estimate
from mixstyle.stages.presentation.figures import FAINT, GREY, SONG_COLOURS, SONG_MARKERS, STYLE, label, save

ROW_COLOURS = ("#0072B2", "#E69F00", "#8C8C8C")


@dataclass(frozen=True)
class MapPanel:
    """One map: points `[N, 2]` and each axis' share of the variance."""

    title: str
    points: NDArray[np.float64]
    share: Sequence[float]


@dataclass(frozen=True)
class LossRow:
    """A line of the training's loss.csv; NaN where a loss was not measured at that step."""

    step: int
    train_loss: float
    validation_loss: float


def smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Mean over `window` values around each (fewer at the ends)."""
    kernel = np.ones(window)
    return np.convolve(values, kernel, "same") / np.convolve(np.ones(len(values)), kernel, "same")


def loss_figure(path: Path, rows: Sequence[LossRow], guess: float, temperature: float, step_shown: int) -> None:
    """Training and validation loss by optimiser step.

    guess: the loss of an encoder that knows nothing. step_shown: that of the encoder which is reported on.
    """
    step = np.array([row.step for row in rows], dtype=float)
    train = np.array([row.train_loss for row in rows])
    validation = np.array([row.validation_loss for row in rows])
    with rc_context(STYLE):
        figure = Figure(figsize=(8.6, 4.4), layout="constrained")
        axes = figure.subplots()
        measured = np.isfinite(train)
        window = max(1, int(measured.sum()) // 25)
        if window > 1:
            axes.plot(step[measured], train[measured], color=SONG_COLOURS[0], alpha=0.25, linewidth=0.8)
        axes.plot(
            step[measured],
            smooth(train[measured], window),
            color=SONG_COLOURS[0],
            linewidth=2,
            label="training" + (f" (mean of {window} points; each one faint)" if window > 1 else ""),
        )
        held = np.isfinite(validation)
        if held.any():
            axes.plot(
                step[held],
                validation[held],
                color=SONG_COLOURS[1],
                marker="o",
                markersize=4,
                linewidth=1.6,
                label="validation",
            )
        axes.axvline(step_shown, color=GREY, linewidth=1.2, label=f"encoder of this report, step {step_shown}")
        axes.axhline(guess, color=GREY, linestyle=":", linewidth=1.5, label=f"guessing, {guess:.2f}")
        axes.set_title(f"Contrastive loss while training (InfoNCE, temperature {temperature:g})")
        axes.set_xlabel("optimiser step")
        axes.set_ylabel("loss (nats)")
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.02)
        figure.legend(loc="outside lower center", ncols=2, fontsize=9)
        save(figure, path)


def map_figure(
    path: Path, panels: Sequence[MapPanel], song: NDArray[np.int64], names: Sequence[str], shown: Sequence[int]
) -> None:
    """Clips in two dimensions, each joined to the middle of its song.

    song: index into `names` of each point, `[N]`. shown: songs that get a colour; the others are grey.
    """
    columns = len(panels)
    with rc_context(STYLE | {"axes.grid": False}):
        legend_rows = -(-len(shown) // 4)
        figure = Figure(figsize=(5.2 * columns, 5.0 + 0.21 * legend_rows), layout="constrained")
        grid: NDArray[Any] = figure.subplots(1, columns, squeeze=False)[0]
        for axes, panel in zip(grid, panels, strict=True):
            _map(axes, panel, song, shown)
        handles = []
        for place, index in enumerate(shown):
            colour, marker = _song_look(place)
            name = label(names[index])
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", markersize=6, label=name))
        if len(set(song.tolist())) > len(shown):
            handles.append(Line2D([], [], color=FAINT, marker="o", linestyle="", markersize=5, label="all other songs"))
        figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=8, handletextpad=0.2)
        save(figure, path)


def _song_look(place: int) -> tuple[str, str]:
    n = len(SONG_COLOURS)
    return SONG_COLOURS[place % n], SONG_MARKERS[(place // n + place) % len(SONG_MARKERS)]


def _map(axes: Axes, panel: MapPanel, song: NDArray[np.int64], shown: Sequence[int]) -> None:
    place_of = {index: place for place, index in enumerate(shown)}
    # Grey songs first, so that they are below.
    for index in sorted(set(song.tolist()), key=lambda s: (s in place_of, s)):
        points = panel.points[song == index]
        middle = points.mean(axis=0)
        colour, marker = _song_look(place_of[index]) if index in place_of else (FAINT, "o")
        for point in points:
            axes.plot(*np.stack([middle, point], 1), color=colour, linewidth=0.8, alpha=0.6, zorder=1)
        size = 34 if index in place_of else 12
        axes.scatter(
            points[:, 0], points[:, 1], s=size, c=colour, marker=marker, edgecolors="white", linewidths=0.6, zorder=2
        )
    axes.set_title(panel.title)
    axes.set_xlabel(f"first principal component ({panel.share[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({panel.share[1]:.0%})")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.margins(0.06)


def retrieval_figure(
    path: Path, names: Sequence[str], values: Mapping[int, Sequence[Estimate]], pool: int, title: str
) -> None:
    """Bars of top-k for each row in `names`, with 95% intervals; `values[k]` has an estimate a row."""
    with rc_context(STYLE | {"axes.grid.axis": "y"}):
        figure = Figure(figsize=(8.6, 4.0), layout="constrained")
        axes = figure.subplots()
        width = 0.8 / len(names)
        for place, k in enumerate(values):
            for row, estimate in enumerate(values[k]):
                x = place + (row - (len(names) - 1) / 2) * width
                percent = 100 * estimate.value
                error = [[percent - 100 * estimate.low], [100 * estimate.high - percent]]
                axes.bar(x, percent, width * 0.92, color=ROW_COLOURS[row], label="" if place else names[row])
                axes.errorbar(x, percent, np.maximum(error, 0), color="black", linewidth=1.2, capsize=3)
                top = max(100 * estimate.high, percent) + 1.5
                axes.text(x, top, f"{percent:.0f}%", ha="center", va="bottom", fontsize=9)
            level = 100 * min(k, pool) / pool
            axes.hlines(
                level,
                place - 0.45,
                place + 0.45,
                color="black",
                linestyle="--",
                linewidth=1.2,
                label="" if place else "chance",
            )
        axes.set_xticks(range(len(values)), [f"top-{k} of {pool} songs" for k in values])
        axes.set_ylabel("queries answered (%)")
        axes.set_ylim(0, 112)
        axes.set_yticks(range(0, 101, 20))
        axes.set_title(title)
        figure.legend(loc="outside lower center", ncols=len(names) + 1, fontsize=9)
        save(figure, path)
