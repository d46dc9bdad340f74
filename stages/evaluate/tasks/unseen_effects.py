"""Task `unseen-effects`: same chain, different content, with effects that nobody trained on, through the mix.

The effects are those of multiafx, the package that StemFX draws its chains from: written by others, on other libraries,
and none of them in mixstyle's registry. `multiafx_effects` says which of them are used.
"""

from typing import Any

import numpy as np

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.chains import MIX_LUFS, STEM_LUFS
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import retrieval_of_halves
from mixstyle.stages.evaluate.tasks.multiafx_effects import EFFECTS, VERSION, UnseenChain, check_package, draw_unseen
from mixstyle.stages.evaluate.tasks.page_parts import first_of, number
from mixstyle.stages.evaluate.tasks.task import Context, Embeddings, Item, Metrics, PageInput, Part, Task, TextTable
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "unseen_effects"
SHOWN = {"r1": "R@1", "r5": "R@5", "r10": "R@10"}


def unseen_effects(context: Context) -> Part:
    """Queries, then the pool: chain i on clips of two different songs, as in `same_chain`.

    Each stem has a chain of its own, at a loudness of its own; the mix is brought to the loudness of all chains.
    """
    options, cut, songs = context.options, context.cut, context.songs
    nothing = tuple(() for _ in STEMS)
    items: list[list[Item]] = [[], []]
    places: list[list[int]] = [[], []]
    for i in range(options.unseen_chains):
        rng = np.random.default_rng([options.seed, 10, i])
        before = MixChain(nothing, stem_lufs=tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS))))
        chain = UnseenChain(tuple(draw_unseen(rng, options.unseen_effects) for _ in STEMS))
        for side, place in enumerate(rng.choice(len(songs), 2, replace=False)):
            clips = songs[int(place)].clips
            clip = clips[int(rng.integers(len(clips)))]
            items[side].append(cut.drawn(rng, clip, before, chain, MixChain(nothing, mix_lufs=MIX_LUFS)))
            places[side].append(int(place))
    return Part(KEY, tuple(places[0] + places[1]), lambda: tuple(items[0] + items[1]), "through-mix")


def _measure(x: Embeddings, part: Part, row: str, _: object) -> dict[str, Any]:
    return {KEY: retrieval_of_halves(x, part.songs, row) | {"chains": len(part) // 2}}


def _table(metrics: Metrics) -> TextTable:
    found = metrics[KEY]
    rows = [[row, *(percent(found[row], name) for name in SHOWN)] for row in metrics["rows"]]
    chains = first_of(found, "chains")
    rows.append(["chance", *(f"{100 * k / chains:.1f}" for k in (1, 5, 10))])
    return TextTable(
        f"through the mix, effects that nobody trained on (multiafx {VERSION}): same chain, N = {chains} chains",
        "%",
        list(SHOWN.values()),
        rows,
    )


def _section(page: PageInput) -> Section:
    found = page.metrics[KEY]
    cells = [
        (row, [*(percent_cell(found[row], name) for name in SHOWN), number(found[row]["median_rank"], 0)])
        for row in page.rows
    ]
    told = (
        f"Chains of {page.options.unseen_effects} effects on each stem, of the {len(EFFECTS)} of multiafx {VERSION} "
        "that run on torchaudio, scipy and numpy: none of them is an effect that mixstyle trains with. "
        f"{first_of(found, 'chains')} chains; the processed stems are summed and separated again."
    )
    return Section("Unseen effects (through the mix)", [told], [Table("", ["", *SHOWN.values(), "median rank"], cells)])


UNSEEN_EFFECTS = Task(
    "unseen-effects",
    1,
    KEY,
    lambda context: [unseen_effects(context)],
    _measure,
    _section,
    table=_table,
    check=lambda _: check_package(),
)
