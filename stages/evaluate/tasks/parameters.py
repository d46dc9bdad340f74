"""Task `parameters`: how well a linear map tells each effect's parameters, on unseen songs. Stems as processed."""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain
from mixstyle.stages.evaluate.tasks.metrics import comparable, mean_of, out_of_fold
from mixstyle.stages.evaluate.tasks.page_parts import BASELINES, colours_of, number
from mixstyle.stages.evaluate.tasks.task import NOTHING, Column, Context, Embeddings, PageInput, Part, Task
from mixstyle.stages.presentation.figures import GREY, STYLE, save
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY = "parameters"
RIDGE = tuple(10.0**k for k in range(-2, 5))
"""Penalties of which the ridge regressions choose within the training songs."""


def parameters(songs: Sequence[CachedTrack], clips: int, seed: int) -> Part:
    """For each effect of the registry in turn, `clips` clips with it alone, on the mix, its parameters drawn."""
    items: list[tuple[CachedClip, MixChain]] = []
    places: list[int] = []
    for number_of_effect, (name, spec) in enumerate(EFFECTS.items()):
        for i in range(clips):
            rng = np.random.default_rng([seed, 4, number_of_effect, i])
            place = int(rng.integers(len(songs)))
            drawn = Effect(name, {key: parameter.draw(rng) for key, parameter in spec.parameters.items()})
            clip = songs[place].clips[int(rng.integers(len(songs[place].clips)))]
            items.append((clip, MixChain(NOTHING.stems, (drawn,))))
            places.append(place)
    return Part(KEY, tuple(places), lambda: tuple(items))


def parameters_of(embeddings: Embeddings, part: Part, row: str) -> dict[str, dict[str, float]]:
    """How well ridge regression tells each effect's parameters, split by song: R2 and Spearman's rho, by
    `effect.parameter`; R2 is below 0 where the songs' mean would have told more."""
    x, songs = comparable(embeddings, row), np.array(part.songs)
    clips = len(songs) // len(EFFECTS)
    found = {}
    for place, (effect, spec) in enumerate(EFFECTS.items()):
        here = slice(place * clips, (place + 1) * clips)
        drawn = [chain.mix[0].parameters for _, chain in part.items[here]]
        for parameter, bounds in spec.parameters.items():
            wanted = np.array([bounds.normalised(values[parameter]) for values in drawn])
            model = make_pipeline(StandardScaler(), RidgeCV(RIDGE))
            told = out_of_fold(model, x[here], wanted, songs[here])
            rho = float(np.asarray(spearmanr(wanted, told))[0]) if np.ptp(told) > 0 else 0.0
            found[f"{effect}.{parameter}"] = {"r2": float(r2_score(wanted, told)), "spearman": rho}
    return found


def _parts(context: Context) -> list[Part]:
    return [parameters(context.songs, context.options.parameter_clips, context.options.seed)]


def _draw(page: PageInput) -> PageFigure:
    path, rows, colours = page.folder / "parameters.png", page.rows, colours_of(page.rows)
    names = list(page.metrics[KEY][rows[0]])
    with rc_context(STYLE | {"axes.grid.axis": "x"}):
        figure = Figure(figsize=(8.0, 0.27 * len(names) + 1.2), layout="constrained")
        axes = figure.subplots()
        for place, name in enumerate(names):
            values = [page.metrics[KEY][row][name]["spearman"] for row in rows]
            axes.plot([min(values), max(values)], [place, place], color="#DDDDDD", linewidth=1.5, zorder=1)
            for row, value in zip(rows, values, strict=True):
                marker = "o" if row not in BASELINES else "D"
                label = None if place else row
                axes.scatter(value, place, s=34, color=colours[row], marker=marker, label=label, zorder=2)
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.set_yticks(range(len(names)), [name.replace(".", ": ").replace("_", " ") for name in names], fontsize=8.5)
        axes.invert_yaxis()
        axes.set_xlabel("Spearman's rho of the parameter told by a linear probe, on songs it has not seen")
        axes.set_xlim(-0.6, 1.02)
        figure.legend(loc="outside upper center", ncols=3, fontsize=9)
        save(figure, path)
    return PageFigure(path, "Spearman's rho by parameter", "How well each parameter is told.")


def _section(page: PageInput) -> Section:
    found = page.metrics[KEY]
    cells = [(row, [number(mean_of(found[row], key)) for key in ("spearman", "r2")]) for row in page.rows]
    told = "Each effect alone on the mix with drawn parameters; ridge regression from the embedding, split by song."
    table = Table("means", ["", "rho", "R2"], cells)
    return Section("Parameters (stems as processed)", [told], [table], [_draw(page)])


PARAMETERS = Task(
    "parameters",
    1,
    KEY,
    _parts,
    lambda x, part, row, _: {KEY: parameters_of(x, part, row)},
    _section,
    (
        Column("parameters: rho", KEY, lambda entry: f"{mean_of(entry, 'spearman'):.2f}"),
        Column("R2", KEY, lambda entry: f"{mean_of(entry, 'r2'):.2f}"),
    ),
)
