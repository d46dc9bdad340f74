"""Tasks `published-protocol` and `mix-published-protocol`: Fx-Encoder++'s question (Yeh et al., ISMIR 2025).

FX-normalised true stems; n effects in an order, the same on every stem with parameters of its own; every stem brought
to a loudness between -18 and -14 LUFS *after* its effects, the mix to -14 LUFS; two contents for each of N chains
(styles, in their words), one asks for the other. `mixstyle evaluate-musdb` runs it on MUSDB18-HQ.

`published-protocol` embeds the stems as they were processed, as it is published. `mix-published-protocol` sums them and
separates the sum, which is what a user has: a mix of true stems, separated once.

What differs from the publication: the effects are those of mixstyle's registry; stems are normalised to the medians of
the evaluated songs' own descriptors; and for an encoder of mixes the four stems are one clip, of which the whole is
embedded.
"""

from dataclasses import dataclass
from functools import partial
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
from mixstyle.stages.evaluate.tasks.variants import Variant
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

GIVEN_STEMS = Variant(
    "",
    "",
    "given stems as processed",
    "The stems are embedded as processed: no user has such stems.",
    "as-processed",
)
GIVEN_STEMS_MIXED = Variant(
    "mix-",
    "mix_",
    "given stems through the mix",
    "The processed stems are summed and separated, as a user's mix is.",
    "through-mix",
)


@dataclass(frozen=True)
class FxNormalisation:
    """A `Step`: stems brought to the same spectrum, stereo image and loudness."""

    targets: StemTargets

    def apply(self, stems: Audio) -> Audio:
        return fx_normalise(stems, self.targets)

    def to_json(self) -> dict[str, Any]:
        return {"fx_normalise": {name: np.asarray(value).tolist() for name, value in vars(self.targets).items()}}


Steps = tuple[FxNormalisation, MixChain, MixChain]


def published_protocol(context: Context, effects: int, variant: Variant = GIVEN_STEMS) -> Part:
    """Queries, then the pool: chain i on whole clips of two different songs. Both variants draw the same."""
    options, nothing = context.options, tuple(() for _ in STEMS)
    normalised = FxNormalisation(context.targets())

    def chain_of(rng: np.random.Generator) -> Steps:
        chain = MixChain(draw_chain(rng, effects).stems)
        lufs = tuple(float(value) for value in rng.uniform(*STEM_LUFS, len(STEMS)))
        return normalised, chain, MixChain(nothing, stem_lufs=lufs, mix_lufs=MIX_LUFS)

    def drawn(place: int, chain: Steps, rng: np.random.Generator) -> list[Item]:
        clips = context.songs[place].clips
        return [Item(clips[int(rng.integers(len(clips)))], chain, 0, context.cut.cached)]

    songs, seed = len(context.songs), (options.seed, 12, effects)
    name = f"{_key(variant)}_{effects}"
    return part_of_two_songs(name, variant.way, songs, options.chains, seed, chain_of, drawn)


def _key(variant: Variant) -> str:
    return f"{variant.key}published_protocol"


def _measure(x: Embeddings, part: Part, row: str, _: object, key: str) -> dict[str, Any]:
    return {f"{key}.{part.name.removeprefix(f'{key}_')}": retrieval_of_halves(x, part.songs, row)}


def _table(metrics: Metrics, variant: Variant) -> TextTable:
    found = metrics[_key(variant)]
    numbers = list(found)
    rows = [[row, *(percent(found[n][row], "r1") for n in numbers)] for row in metrics["rows"]]
    rows.append(["chance", *(f"{100 * first_of(found[n], 'chance_r1'):.1f}" for n in numbers)])
    title = f"Fx-Encoder++'s protocol, {variant.words}: N = {metrics['chains']} chains, by number of effects"
    return TextTable(title, "R@1, %", numbers, rows)


def _section(page: PageInput, variant: Variant) -> Section:
    found = page.metrics[_key(variant)]
    numbers = list(found)
    cells = [(row, [percent_cell(found[n][row], "r1") for n in numbers]) for row in page.rows]
    told = (
        "FX-normalised stems, n effects, each stem at -18 to -14 LUFS after them, the mix at -14 LUFS; two contents "
        f"for each of {page.metrics['chains']} chains. {variant.told}"
    )
    title = f"Fx-Encoder++'s protocol ({variant.words})"
    return Section(title, [told], [Table("R@1 by number of effects", ["", *numbers], cells)])


def published_protocol_task(variant: Variant) -> Task:
    """The task in one of its variants."""
    return Task(
        f"{variant.name}published-protocol",
        1,
        _key(variant),
        lambda context: [published_protocol(context, n, variant) for n in context.options.effects],
        partial(_measure, key=_key(variant)),
        partial(_section, variant=variant),
        table=partial(_table, variant=variant),
    )


PUBLISHED_PROTOCOL = published_protocol_task(GIVEN_STEMS)
MIX_PUBLISHED_PROTOCOL = published_protocol_task(GIVEN_STEMS_MIXED)
