"""Task `published-protocol`: Fx-Encoder++'s question as it is published, for true stems (Yeh et al., ISMIR 2025).

FX-normalised true stems; n effects in an order, the same on every stem with parameters of its own; every stem brought
to a loudness between -18 and -14 LUFS *after* its effects, the mix to -14 LUFS; two contents for each of N chains
(styles, in their words), one asks for the other. `mixstyle evaluate-musdb` runs it on MUSDB18-HQ.

What differs from the publication: the effects are those of mixstyle's registry; stems are normalised to the medians of
the evaluated songs' own descriptors; and for an encoder of mixes the four stems are one clip, of which the whole is
embedded.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.chains import MIX_LUFS, STEM_LUFS, draw_chain
from mixstyle.pipeline.mixing.fxnorm import StemTargets, fx_normalise
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import retrieval_of_halves
from mixstyle.stages.evaluate.tasks.page_parts import first_of
from mixstyle.stages.evaluate.tasks.task import (
    Audio,
    Context,
    Embeddings,
    Item,
    Metrics,
    PageInput,
    Part,
    Task,
    TextTable,
)
from mixstyle.stages.evaluate.tasks.two_songs import part_of_two_songs
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "published_protocol"


@dataclass(frozen=True)
class FxNormalisation:
    """A `Step`: stems brought to the same spectrum, stereo image and loudness."""

    targets: StemTargets

    def apply(self, stems: Audio) -> Audio:
        return fx_normalise(stems, self.targets)

    def to_json(self) -> dict[str, Any]:
        return {"fx_normalise": {name: np.asarray(value).tolist() for name, value in vars(self.targets).items()}}


Steps = tuple[FxNormalisation, MixChain, MixChain]


def published_protocol(context: Context, effects: int) -> Part:
    """Queries, then the pool: chain i on whole clips of two different songs."""
    options, nothing = context.options, tuple(() for _ in STEMS)
    normalised = FxNormalisation(context.targets())

    def chain_of(rng: np.random.Generator) -> Steps:
        chain = MixChain(draw_chain(rng, effects).stems)
        lufs = tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS)))
        return normalised, chain, MixChain(nothing, stem_lufs=lufs, mix_lufs=MIX_LUFS)

    def drawn(place: int, chain: Steps, rng: np.random.Generator) -> list[Item]:
        clips = context.songs[place].clips
        return [Item(clips[int(rng.integers(len(clips)))], chain)]

    songs, seed = len(context.songs), (options.seed, 12, effects)
    return part_of_two_songs(f"{KEY}_{effects}", "as-processed", songs, options.chains, seed, chain_of, drawn)


def _measure(x: Embeddings, part: Part, row: str, _: object) -> dict[str, Any]:
    return {f"{KEY}.{part.name.removeprefix(f'{KEY}_')}": retrieval_of_halves(x, part.songs, row)}


def _table(metrics: Metrics) -> TextTable:
    found, numbers = metrics[KEY], list(metrics[KEY])
    rows = [[row, *(percent(found[n][row], "r1") for n in numbers)] for row in metrics["rows"]]
    rows.append(["chance", *(f"{100 * first_of(found[n], 'chance_r1'):.1f}" for n in numbers)])
    title = f"Fx-Encoder++'s protocol, given stems as processed: N = {metrics['chains']} chains, by number of effects"
    return TextTable(title, "R@1, %", numbers, rows)


def _section(page: PageInput) -> Section:
    found, numbers = page.metrics[KEY], list(page.metrics[KEY])
    cells = [(row, [percent_cell(found[n][row], "r1") for n in numbers]) for row in page.rows]
    told = (
        "FX-normalised stems, n effects, each stem at -18 to -14 LUFS after them, the mix at -14 LUFS; two contents "
        f"for each of {page.metrics['chains']} chains. The stems are embedded as processed: no user has such stems."
    )
    return Section("Fx-Encoder++'s protocol", [told], [Table("R@1 by number of effects", ["", *numbers], cells)])


PUBLISHED_PROTOCOL = Task(
    "published-protocol",
    1,
    KEY,
    lambda context: [published_protocol(context, n) for n in context.options.effects],
    _measure,
    _section,
    table=_table,
)
