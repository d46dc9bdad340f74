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
from mixstyle.stages.evaluate.tasks.two_songs import part_of_two_songs
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "unseen_effects"
Steps = tuple[MixChain, UnseenChain, MixChain]
SHOWN = {"r1": "R@1", "r5": "R@5", "r10": "R@10"}


def unseen_effects(context: Context) -> Part:
    """Queries, then the pool: chain i on clips of two different songs, as in `same_chain`.

    Each stem has a chain of its own, at a loudness of its own; the mix is brought to the loudness of all chains.
    """
    options, nothing = context.options, tuple(() for _ in STEMS)

    def chain_of(rng: np.random.Generator) -> Steps:
        lufs = tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS)))
        chain = UnseenChain(tuple(draw_unseen(rng, options.unseen_effects) for _ in STEMS))
        return MixChain(nothing, stem_lufs=lufs), chain, MixChain(nothing, mix_lufs=MIX_LUFS)

    def drawn(place: int, chain: Steps, rng: np.random.Generator) -> list[Item]:
        clips = context.songs[place].clips
        return [context.cut.drawn(rng, clips[int(rng.integers(len(clips)))], *chain)]

    songs, seed = len(context.songs), (options.seed, 10)
    return part_of_two_songs(KEY, "through-mix", songs, options.unseen_chains, seed, chain_of, drawn)


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
