"""Task `same-chain`: the same effect chain on another song is to be found among other chains. Stems as processed.

Clips of two different songs are mixed with effect chain i; the one is the query, the other lies in a pool with those
of all N chains. So N counts chains, and the distractors may hold the query's own song under another chain. The stems
go to the encoder as they were processed: no mix lies in between that would have to be separated again.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import retrieval_of_halves
from mixstyle.stages.evaluate.tasks.page_parts import BASELINES, colours_of, first_of, number
from mixstyle.stages.evaluate.tasks.task import Context, Metrics, PageInput, Part, Task, TextTable
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.figures import STYLE, save
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY = "same_chain"


def same_chain(songs: Sequence[CachedTrack], effects: int, chains: int, seed: int) -> Part:
    """Queries, then the pool: chain i on clips of two different songs."""
    items: list[list[tuple[CachedClip, MixChain]]] = [[], []]
    places: list[list[int]] = [[], []]
    for i in range(chains):
        rng = np.random.default_rng([seed, 0, effects, i])
        chain = draw_chain(rng, effects)
        for side, place in enumerate(rng.choice(len(songs), 2, replace=False)):
            clips = songs[int(place)].clips
            items[side].append((clips[int(rng.integers(len(clips)))], chain))
            places[side].append(int(place))
    return Part(f"{KEY}_{effects}", tuple(places[0] + places[1]), lambda: tuple(items[0] + items[1]))


def _parts(context: Context) -> list[Part]:
    options = context.options
    return [same_chain(context.songs, n, options.chains, options.seed) for n in options.effects]


def _table(metrics: Metrics) -> TextTable:
    found, numbers = metrics[KEY], list(metrics[KEY])
    rows = [[row, *(percent(found[n][row], "r1") for n in numbers)] for row in metrics["rows"]]
    rows.append(["chance", *(f"{100 * first_of(found[n], 'chance_r1'):.1f}" for n in numbers)])
    title = "stems as processed: same chain, different content, by number of effects"
    return TextTable(title, "R@1, %", numbers, rows)


def _draw(page: PageInput, numbers: Sequence[int]) -> PageFigure:
    found, colours, path = page.metrics[KEY], colours_of(page.rows), page.folder / "same_chain.png"
    with rc_context(STYLE):
        figure = Figure(figsize=(7.2, 4.4), layout="constrained")
        axes = figure.subplots()
        for row in page.rows:
            values, low, high = (
                [100 * found[str(n)][row][key] for n in numbers] for key in ("r1", "r1_low", "r1_high")
            )
            axes.fill_between(numbers, low, high, color=colours[row], alpha=0.13, linewidth=0)
            dashes = "--" if row in BASELINES else "-"
            axes.plot(numbers, values, dashes, marker="o", markersize=4.5, color=colours[row], label=row)
        chance = [100 * first_of(found[str(n)], "chance_r1") for n in numbers]
        axes.plot(numbers, chance, ":", color="black", linewidth=1.2, label="chance")
        axes.set_xticks(numbers)
        axes.set_xlabel("effects in the chain")
        axes.set_ylabel("R@1, stems as processed (%)")
        axes.set_ylim(0, 100)
        figure.legend(loc="outside right center", fontsize=9)
        save(figure, path)
    return PageFigure(path, "R@1 by the number of effects", "R@1 by the number of effects; bands are 95% intervals.")


def _section(page: PageInput) -> Section:
    found, numbers = page.metrics[KEY], [int(n) for n in page.metrics[KEY]]
    last = str(numbers[-1])
    cells = [
        (
            row,
            [percent_cell(found[last][row], key) for key in ("r1", "r5", "r10")]
            + [number(found[last][row]["median_rank"], 0), number(found[last][row]["mrr"])],
        )
        for row in page.rows
    ]
    head = ["", "R@1", "R@5", "R@10", "median rank", "MRR"]
    told = (
        f"{page.metrics['chains']} chains for each number of effects, each on clips of two different songs; the one "
        "asks for the other among those of all chains, by cosine. Other chains may be on the query's own song. The "
        "stems are embedded as they were processed, without a mix in between: music as people have it is harder."
    )
    title = "Same chain, different content (stems as processed)"
    return Section(title, [told], [Table(f"{last} effects", head, cells)], [_draw(page, numbers)])


SAME_CHAIN = Task(
    "same-chain",
    1,
    KEY,
    _parts,
    # the number of effects stands in the part's name
    lambda x, part, row, _: {f"{KEY}.{part.name.removeprefix(f'{KEY}_')}": retrieval_of_halves(x, part.songs, row)},
    _section,
    table=_table,
)
