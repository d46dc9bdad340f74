"""Tasks `presets` (through the mix) and `stems-presets` (stems as processed): which of five presets a clip has."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.pipeline.retrieval import unit
from mixstyle.stages.evaluate.tasks.metrics import classifier, comparable, estimate, out_of_fold
from mixstyle.stages.evaluate.tasks.page_parts import number, rows_with_a_panel
from mixstyle.stages.evaluate.tasks.task import Column, Context, Cut, Embeddings, PageInput, Part, Task, some_of
from mixstyle.stages.evaluate.tasks.variants import AS_PROCESSED, THROUGH_MIX, Variant, Way
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.figures import saved_figure
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY = "presets"


def presets(songs: Sequence[CachedTrack], cut: Cut, clips: int, seed: int, name: str, way: Way) -> Part:
    """A grid: each preset on a stretch of up to `clips` clips of every song, preset by preset."""
    rng = np.random.default_rng([seed, 3])
    chosen = [
        (place, cut.drawn(rng, song.clips[int(i)]))
        for place, song in enumerate(songs)
        for i in rng.permutation(len(song.clips))[:clips]
    ]
    items = tuple(replace(clip, steps=(preset,)) for preset in PRESETS.values() for _, clip in chosen)
    return Part(name, tuple(place for place, _ in chosen) * len(PRESETS), lambda: items, way)


def presets_of(embeddings: Embeddings, part: Part, row: str) -> dict[str, Any]:
    """Which preset a clip has: by the nearest mean of other songs' clips, and by a linear probe, split by song.

    confusion: [5][5], shares of each preset's clips, by the nearest mean.
    """
    from sklearn.metrics import confusion_matrix, f1_score

    x, songs = comparable(embeddings, row), np.array(part.songs)
    label = np.repeat(np.arange(len(PRESETS)), len(songs) // len(PRESETS))
    nearest = np.empty_like(label)
    for song in np.unique(songs):
        inside = songs == song
        means = unit(np.stack([x[~inside & (label == k)].mean(0) for k in range(len(PRESETS))]))
        nearest[inside] = (x[inside] @ means.T).argmax(1)
    probe = out_of_fold(classifier(), x, label, songs)
    found: dict[str, Any] = {"chance": 1 / len(PRESETS)}
    for kind, told in (("nearest", nearest), ("probe", probe)):
        found |= estimate(f"{kind}_accuracy", told == label, songs)
        found[f"{kind}_f1"] = float(f1_score(label, told, average="macro"))
    found["confusion"] = confusion_matrix(label, nearest, normalize="true").tolist()
    return found


def _parts(context: Context, variant: Variant, key: str) -> list[Part]:
    options = context.options
    songs = some_of(context.songs, options.hard_songs, options.seed)
    return [presets(songs, context.cut, options.preset_clips, options.seed, key, variant.way)]


def _draw(page: PageInput, variant: Variant) -> PageFigure:
    path, shown, names = page.folder / f"{variant.key}confusion.png", rows_with_a_panel(page.rows), list(PRESETS)
    with saved_figure(path, 3.7 * len(shown), 4.0) as figure:
        for place, (axes, row) in enumerate(zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True)):
            shares = 100 * np.array(page.metrics[f"{variant.key}{KEY}"][row]["confusion"])
            axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
            for (i, j), value in np.ndenumerate(shares):
                axes.text(j, i, f"{value:.0f}", ha="center", va="center", color="white" if value > 55 else "black")
            axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=8.5)
            axes.set_yticks(range(len(names)), names if place == 0 else [], fontsize=8.5)
            axes.grid(visible=False)
            axes.set_title(row)
    caption = "Shares of each preset's clips (rows) that were taken for each (columns), percent, by the nearest mean."
    return PageFigure(path, "Confusion", caption)


def _section(page: PageInput, variant: Variant) -> Section:
    found = page.metrics[f"{variant.key}{KEY}"]
    cells = [
        (
            row,
            [percent_cell(found[row], f"{kind}_accuracy") for kind in ("nearest", "probe")]
            + [number(found[row][f"{kind}_f1"]) for kind in ("nearest", "probe")],
        )
        for row in page.rows
    ]
    head = ["", "nearest mean", "linear probe", "macro-F1, nearest", "macro-F1, probe"]
    told = (
        f"Five presets, on songs that the reference means and the probe have not seen: {', '.join(PRESETS)}. "
        f"{variant.told}"
    )
    return Section(f"Presets ({variant.words})", [told], [Table("", head, cells)], [_draw(page, variant)])


def preset_task(variant: Variant, version: int) -> Task:
    """The task in one of its variants."""
    key, short = f"{variant.key}{KEY}", variant.name.replace("-", ": ")
    return Task(
        f"{variant.name}presets",
        version,
        key,
        partial(_parts, variant=variant, key=key),
        lambda x, part, row, _: {key: presets_of(x, part, row)},
        partial(_section, variant=variant),
        (
            Column(f"{short}presets: nearest, %", key, lambda entry: percent(entry, "nearest_accuracy"), "chance"),
            Column(f"{short}probe, %", key, lambda entry: percent(entry, "probe_accuracy"), "chance"),
        ),
    )


PRESET_TASK = preset_task(THROUGH_MIX, 2)
STEMS_PRESETS = preset_task(AS_PROCESSED, 1)
