"""Tasks `parameters` (through the mix) and `stems-parameters`: how well a linear map tells each effect's parameters."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain
from mixstyle.stages.evaluate.tasks.metrics import comparable, mean_of, out_of_fold
from mixstyle.stages.evaluate.tasks.page_parts import BASELINES, colours_of, number
from mixstyle.stages.evaluate.tasks.task import Column, Context, Cut, Embeddings, Item, PageInput, Part, Task
from mixstyle.stages.evaluate.tasks.variants import AS_PROCESSED, THROUGH_MIX, Variant, Way
from mixstyle.stages.presentation.figures import GREY, saved_figure
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY = "parameters"
RIDGE = tuple(10.0**k for k in range(-2, 5))
"""Penalties of which the ridge regressions choose within the training songs."""


def parameters(songs: Sequence[CachedTrack], cut: Cut, clips: int, seed: int, name: str, way: Way) -> Part:
    """For each effect of the registry in turn, `clips` clips with it alone, on the mix, its parameters drawn."""
    items: list[Item] = []
    places: list[int] = []
    for number_of_effect, (effect, spec) in enumerate(EFFECTS.items()):
        for i in range(clips):
            rng = np.random.default_rng([seed, 4, number_of_effect, i])
            place = int(rng.integers(len(songs)))
            drawn = Effect(effect, {key: parameter.draw(rng) for key, parameter in spec.parameters.items()})
            clip = songs[place].clips[int(rng.integers(len(songs[place].clips)))]
            items.append(cut.drawn(rng, clip, MixChain(tuple(() for _ in STEMS), (drawn,))))
            places.append(place)
    return Part(name, tuple(places), lambda: tuple(items), way)


def parameters_of(embeddings: Embeddings, part: Part, row: str) -> dict[str, dict[str, float]]:
    """How well ridge regression tells each effect's parameters, split by song: R2 and Spearman's rho, by
    `effect.parameter`; R2 is below 0 where the songs' mean would have told more."""
    from scipy.stats import spearmanr
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x, songs = comparable(embeddings, row), np.array(part.songs)
    clips = len(songs) // len(EFFECTS)
    found = {}
    for place, (effect, spec) in enumerate(EFFECTS.items()):
        here = slice(place * clips, (place + 1) * clips)
        chains = [item.steps[0] for item in part.items[here]]
        drawn = [chain.mix[0].parameters for chain in chains if isinstance(chain, MixChain)]
        for parameter, bounds in spec.parameters.items():
            wanted = np.array([bounds.normalised(values[parameter]) for values in drawn])
            model = make_pipeline(StandardScaler(), RidgeCV(RIDGE))
            told = out_of_fold(model, x[here], wanted, songs[here])
            rho = float(np.asarray(spearmanr(wanted, told))[0]) if np.ptp(told) > 0 else 0.0
            found[f"{effect}.{parameter}"] = {"r2": float(r2_score(wanted, told)), "spearman": rho}
    return found


def _parts(context: Context, variant: Variant, key: str) -> list[Part]:
    options = context.options
    return [parameters(context.songs, context.cut, options.parameter_clips, options.seed, key, variant.way)]


def _draw(page: PageInput, key: str) -> PageFigure:
    path, rows, colours = page.folder / f"{key}.png", page.rows, colours_of(page.rows)
    names = list(page.metrics[key][rows[0]])
    with saved_figure(path, 8.0, 0.27 * len(names) + 1.2, **{"axes.grid.axis": "x"}) as figure:
        axes = figure.subplots()
        for place, name in enumerate(names):
            values = [page.metrics[key][row][name]["spearman"] for row in rows]
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
    return PageFigure(path, "Spearman's rho by parameter", "How well each parameter is told.")


def _section(page: PageInput, variant: Variant, key: str) -> Section:
    found = page.metrics[key]
    cells = [(row, [number(mean_of(found[row], key)) for key in ("spearman", "r2")]) for row in page.rows]
    told = (
        "Each effect alone on the mix with drawn parameters; ridge regression from the embedding, split by song. "
        f"{variant.told}"
    )
    table = Table("means", ["", "rho", "R2"], cells)
    return Section(f"Parameters ({variant.words})", [told], [table], [_draw(page, key)])


def parameter_task(variant: Variant, version: int) -> Task:
    """The task in one of its variants."""
    key, short = f"{variant.key}{KEY}", variant.name.replace("-", ": ")
    return Task(
        f"{variant.name}parameters",
        version,
        key,
        partial(_parts, variant=variant, key=key),
        lambda x, part, row, _: {key: parameters_of(x, part, row)},
        partial(_section, variant=variant, key=key),
        (
            Column(f"{short}parameters: rho", key, lambda entry: f"{mean_of(entry, 'spearman'):.2f}"),
            Column(f"{short}R2", key, lambda entry: f"{mean_of(entry, 'r2'):.2f}"),
        ),
    )


PARAMETERS = parameter_task(THROUGH_MIX, 2)
STEMS_PARAMETERS = parameter_task(AS_PROCESSED, 1)
