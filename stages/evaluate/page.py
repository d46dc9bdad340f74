"""The page of an evaluation: one HTML file with its figures, each of which stands by itself in a paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mixstyle.cache.storage.atomic import write_text
from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.pipeline.retrieval import principal_components
from mixstyle.stages.evaluate.metrics import comparable, means
from mixstyle.stages.evaluate.tables import percent
from mixstyle.stages.evaluate.tasks import OTHER_STYLE
from mixstyle.stages.presentation.figures import GREY, SONG_COLOURS, SONG_MARKERS, STYLE, save
from mixstyle.stages.presentation.html import PageFigure, Section, Table, page

BASELINES = {"untrained": "#B0B0B0", "raw descriptors": "#555555", "MFCC statistics": "#8C6D31"}
MOST_MAPPED = 8
"""Styles that the map shows: as many as there are colours that people tell apart, and one."""


def write_page(path: Path, metrics: Mapping[str, Any], grid: Mapping[str, NDArray[np.float32]], styles: int) -> None:
    """Writes the page, and beside it the figures that it holds. grid: embeddings of the content-hard part, by row."""
    rows, folder = metrics["rows"], path.parent
    colours = colours_of(rows)
    sections: list[Section] = []
    if "same_chain" in metrics:
        sections.append(_same_chain(folder, metrics, colours))
    if grid:
        sections.append(_content(folder, metrics, grid, styles))
    if "presets" in metrics:
        sections.append(_presets(folder, metrics))
    if "parameters" in metrics:
        sections.append(_parameters(folder, metrics, colours))
    if "robustness" in metrics:
        sections.append(_robustness(folder, metrics, colours))
    if "fingerprint" in metrics:
        sections.append(_fingerprint(metrics))
    if "song_retrieval" in metrics:
        cells = [(r, [_cell(metrics["song_retrieval"][r], f"r{k}") for k in (1, 5)]) for r in rows]
        told = "The last clip of a song asks for its first: what an embedding of mixes knows of a song's own mix."
        sections.append(Section("Song retrieval", [told], [Table("", ["", "top-1", "top-5"], cells)]))
    lead = (
        f"{metrics['songs']} held-out songs. Values are percent with 95% intervals from resampling songs, unless "
        "said otherwise."
    )
    write_text(path, page("What the embedding knows", lead, sections))


def colours_of(rows: Sequence[str]) -> dict[str, str]:
    """A colour for each row: baselines have theirs, the others those of the report."""
    own = [row for row in rows if row not in BASELINES]
    return {row: SONG_COLOURS[own.index(row) % len(SONG_COLOURS)] if row in own else BASELINES[row] for row in rows}


def _shown(rows: Sequence[str]) -> list[str]:
    """Rows that figures with a panel each show."""
    return [*[row for row in rows if row not in BASELINES][:2], "raw descriptors"]


def _cell(entry: Mapping[str, float], name: str) -> tuple[str, str]:
    value, _, interval = percent(dict(entry), name).partition(" ")
    return value, interval


def _same_chain(folder: Path, metrics: Mapping[str, Any], colours: Mapping[str, str]) -> Section:
    found, numbers = metrics["same_chain"], [int(n) for n in metrics["same_chain"]]
    path = folder / "same_chain.png"
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for row in metrics["rows"]:
            values, low, high = (
                [100 * found[str(n)][row][key] for n in numbers] for key in ("r1", "r1_low", "r1_high")
            )
            axes.fill_between(numbers, low, high, color=colours[row], alpha=0.13, linewidth=0)
            dashes = "--" if row in BASELINES else "-"
            axes.plot(numbers, values, dashes, marker="o", markersize=4.5, color=colours[row], label=row)
        chance = [100 * found[str(n)][metrics["rows"][0]]["chance_r1"] for n in numbers]
        axes.plot(numbers, chance, ":", color="black", linewidth=1.2, label="chance")
        axes.set_xticks(numbers)
        axes.set_xlabel("effects in the chain")
        axes.set_ylabel("R@1 (%)")
        axes.set_ylim(0, 100)
        figure.legend(loc="outside right center", fontsize=9)
        save(figure, path)
    last = str(numbers[-1])
    cells = [
        (
            row,
            [_cell(found[last][row], key) for key in ("r1", "r5", "r10")]
            + [(f"{found[last][row]['median_rank']:.0f}", ""), (f"{found[last][row]['mrr']:.2f}", "")],
        )
        for row in metrics["rows"]
    ]
    head = ["", "R@1", "R@5", "R@10", "median rank", "MRR"]
    return Section(
        "Same chain, different content",
        [
            f"{metrics['styles']} chains for each number of effects, each on clips of two songs; the one asks for the "
            "other among those of all chains, by cosine."
        ],
        [Table(f"{last} effects", head, cells)],
        [PageFigure(path, "R@1 by the number of effects", "R@1 by the number of effects; bands are 95% intervals.")],
    )


def _content(folder: Path, metrics: Mapping[str, Any], grid: Mapping[str, NDArray[np.float32]], styles: int) -> Section:
    path = folder / "map.png"
    shown = _shown(metrics["rows"])
    with rc_context(STYLE):
        figure = Figure(figsize=(4.0 * len(shown), 4.3), layout="constrained")
        for axes, row in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
            count = min(styles, MOST_MAPPED)
            songs = len(grid[row]) // styles
            points, share = principal_components(comparable(grid[row], row)[: count * songs])
            for style in range(count):
                here = points[style * songs : (style + 1) * songs]
                colour, marker = (*SONG_COLOURS, "#777777")[style], (*SONG_MARKERS, "*")[style]
                axes.scatter(here[:, 0], here[:, 1], s=30, c=colour, marker=marker, edgecolors="white", linewidths=0.5)
            axes.set_title(row)
            axes.set_xlabel(f"first principal component ({share[0]:.0%})")
            axes.set_ylabel(f"second ({share[1]:.0%})")
            axes.set_xticks([])
            axes.set_yticks([])
        save(figure, path)
    cells = [
        (row, [_cell(metrics["content_hard"][row], "r1"), _cell(metrics["leakage"][row], "accuracy")])
        for row in metrics["rows"]
    ]
    first = metrics["rows"][0]
    chance = [metrics["content_hard"][first]["chance_r1"], metrics["leakage"][first]["chance"]]
    cells.append(("chance", [(f"{100 * value:.1f}", "") for value in chance]))
    return Section(
        "Content",
        [
            f"Of {styles} candidates all share the query's content but one, which has its chain: R@1 is below chance "
            "where an embedding follows content. The song probe is a linear classifier of the song, trained on other "
            "chains of the same clips: the lower, the less it tells."
        ],
        [Table("", ["", "content-hard R@1", "song probe"], cells)],
        [PageFigure(path, "Map by chain", f"{min(styles, MOST_MAPPED)} chains on every song: a colour is a chain.")],
    )


def _presets(folder: Path, metrics: Mapping[str, Any]) -> Section:
    path, rows = folder / "confusion.png", metrics["rows"]
    shown = _shown(rows)
    names = list(PRESETS)
    with rc_context(STYLE):
        figure = Figure(figsize=(3.7 * len(shown), 4.0), layout="constrained")
        for place, (axes, row) in enumerate(zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True)):
            shares = 100 * np.array(metrics["presets"][row]["confusion"])
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
            for (i, j), value in np.ndenumerate(shares):
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black")
            axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8.5)
            axes.set_yticks(range(len(names)), names if place == 0 else [], fontsize=8.5)
            axes.grid(visible=False)
            axes.set_title(row)
        save(figure, path)
    keys = ("nearest_accuracy", "probe_accuracy")
    cells = [
        (
            row,
            [_cell(metrics["presets"][row], key) for key in keys]
            + [(f"{metrics['presets'][row][f'{kind}_f1']:.2f}", "") for kind in ("nearest", "probe")],
        )
        for row in rows
    ]
    head = ["", "nearest mean", "linear probe", "macro-F1, nearest", "macro-F1, probe"]
    told = "Five presets, on songs that the reference means and the probe have not seen: " + ", ".join(names) + "."
    alt = "Shares of each preset's clips (rows) that were taken for each (columns), percent, by the nearest mean."
    return Section("Zero-shot style", [told], [Table("", head, cells)], [PageFigure(path, "Confusion", alt)])


def _parameters(folder: Path, metrics: Mapping[str, Any], colours: Mapping[str, str]) -> Section:
    path, rows = folder / "parameters.png", metrics["rows"]
    names = list(metrics["parameters"][rows[0]])
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(8.0, 0.27 * len(names) + 1.2), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(names):
            values = [metrics["parameters"][row][name]["spearman"] for row in rows]
            axes.plot([min(values), max(values)], [place, place], color="#DDDDDD", linewidth=1.5, zorder=1)
            for row, value in zip(rows, values, strict=True):
                marker = "o" if row not in BASELINES else "D"
                axes.scatter(
                    value, place, s=34, color=colours[row], marker=marker, label=None if place else row, zorder=2
                )
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(names)), [name.replace(".", ": ").replace("_", " ") for name in names], fontsize=8.5)
        axes.invert_yaxis()
        axes.set_xlabel("Spearman's rho of the parameter told by a linear probe, on songs it has not seen")
        axes.set_xlim(-0.6, 1.02)
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        save(figure, path)
    found = metrics["parameters"]
    cells = [(row, [(f"{means(found[row], key):.2f}", "") for key in ("spearman", "r2")]) for row in rows]
    told = "Each effect alone on the mix with drawn parameters; ridge regression from the embedding, split by song."
    figures = [PageFigure(path, "Spearman's rho by parameter", "How well each parameter is told.")]
    return Section("Parameters", [told], [Table("means", ["", "rho", "R2"], cells)], figures)


def _robustness(folder: Path, metrics: Mapping[str, Any], colours: Mapping[str, str]) -> Section:
    path, rows = folder / "robustness.png", metrics["rows"]
    changes = list(metrics["robustness"][rows[0]])
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(8.0, 4.2), layout="constrained")
        axes = figure.subplots()
        height = 0.8 / len(rows)
        for place, change in enumerate(changes):
            for number, row in enumerate(rows):
                entry = metrics["robustness"][row][change]
                y = place + (number - (len(rows) - 1) / 2) * height
                axes.plot([entry["cosine_low"], entry["cosine_high"]], [y, y], color=colours[row], linewidth=2)
                axes.plot(entry["cosine"], y, "o", color=colours[row], markersize=4, label=None if place else row)
        axes.axhline(changes.index(OTHER_STYLE) - 0.5, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(changes)), changes)
        axes.invert_yaxis()
        axes.set_xlabel("cosine to the clip as it is")
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        save(figure, path)
    cells = [
        (row, [_cell(metrics["robustness"][row][c], "nearer_than_style") for c in changes if c != OTHER_STYLE])
        for row in rows
    ]
    told = (
        "The mixture is changed and separated again. A change should move the embedding less than another style does: "
        "the table has the share of songs for which it did."
    )
    head = ["", *(change for change in changes if change != OTHER_STYLE)]
    return Section("Robustness", [told], [Table("", head, cells)], [PageFigure(path, "Cosines", "Cosines.")])


def _fingerprint(metrics: Mapping[str, Any]) -> Section:
    kinds = ("true", "separated", "true_to_separated")
    cells = [
        (
            row,
            [_cell(metrics["fingerprint"][row][kind], "r1") for kind in kinds]
            + [(f"{metrics['fingerprint'][row]['same_mix_cosine']:.3f}", "")],
        )
        for row in metrics["rows"]
    ]
    told = (
        "Rendered songs, of which the true stems are known: the same question with those, with stems separated from "
        "the same mixtures, and across. What falls from the first to the last is the separator's doing."
    )
    head = ["", "true stems", "separated", "true asks separated", "cosine, same mix"]
    return Section("The separator's fingerprint", [told], [Table("R@1", head, cells)])
