"""Task `separator-dependence`: the same task on true stems, on separated stems, and across, on rendered songs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import comparable, estimate, retrieval
from mixstyle.stages.evaluate.tasks.page_parts import number
from mixstyle.stages.evaluate.tasks.rendered_songs import rendered_clips
from mixstyle.stages.evaluate.tasks.task import (
    Context,
    Embeddings,
    Item,
    Items,
    Metrics,
    PageInput,
    Part,
    Separate,
    Task,
    TextTable,
)
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "separator_dependence"
MOST_SONGS = 24
"""Rendered songs that are used, at most; their stems are held in memory."""
KINDS = {"true": "true stems", "separated": "separated stems", "true_to_separated": "true asks separated"}


def separator_dependence(
    folder: Path, separate: Callable[[], Separate], clip_s: float, effects: int, chains: int, seed: int
) -> Part:
    """Chain i on clips of two rendered songs, as in `same_chain`: queries and pool of true stems, then both of stems
    that were separated from the same mixtures. Raises MixstyleError as `rendered_clips` does."""
    clips = [clip for (clip,) in rendered_clips(folder, clip_s, MOST_SONGS)]
    drawn: list[tuple[MixChain, tuple[int, ...]]] = []
    for i in range(chains):
        rng = np.random.default_rng([seed, 7, i])
        chain = draw_chain(rng, effects)
        drawn.append((chain, tuple(int(place) for place in rng.choice(len(clips), 2, replace=False))))

    def make() -> Items:
        true = [clip.read() for clip in clips]
        separated = separate()([stems.sum(0) for stems in true])
        return tuple(
            Item(k[pair[side]], (chain,)) for k in (true, separated) for side in (0, 1) for chain, pair in drawn
        )

    places = tuple(pair[side] for _ in range(2) for side in (0, 1) for _, pair in drawn)
    return Part(KEY, places, make, "as-processed")


def separator_dependence_of(embeddings: Embeddings, part: Part, row: str) -> dict[str, Any]:
    """Retrieval among true stems, among separated ones, and of separated by true; and the mean cosine of the two
    embeddings of one mixture."""
    true_queries, true_pool, queries, pool = np.split(comparable(embeddings, row), 4)
    songs = np.array(part.songs[: len(pool)])
    return {
        "true": retrieval(true_queries, true_pool, songs),
        "separated": retrieval(queries, pool, songs),
        "true_to_separated": retrieval(true_queries, pool, songs),
        **estimate("same_mix_cosine", (true_queries * queries).sum(1), songs),
    }


def _parts(context: Context) -> list[Part]:
    options, clip_s = context.options, context.cache.clip_frames / SAMPLE_RATE
    if options.rendered_dir is None:
        return []
    return [
        separator_dependence(
            options.rendered_dir, context.separate, clip_s, options.hard_effects, options.chains, options.seed
        )
    ]


def _table(metrics: Metrics) -> TextTable:
    found = metrics[KEY]
    rows = []
    for row in metrics["rows"]:
        shares = [percent(found[row][kind], "r1") for kind in KINDS]
        rows.append([row, *shares, f"{found[row]['same_mix_cosine']:.3f}"])
    title = "dependence on the separator: R@1 on rendered songs, %, and the cosine of one mixture's two embeddings"
    return TextTable(title, "", [*KINDS.values(), "same mix"], rows)


def _section(page: PageInput) -> Section:
    found = page.metrics[KEY]
    cells = [
        (row, [percent_cell(found[row][kind], "r1") for kind in KINDS] + [number(found[row]["same_mix_cosine"], 3)])
        for row in page.rows
    ]
    told = (
        "Rendered songs, of which the true stems are known: the same task with those, with stems separated from the "
        "same mixtures, and across. The drop from the first to the last comes from the separator."
    )
    table = Table("R@1, stems as processed", ["", *KINDS.values(), "cosine, same mix"], cells)
    return Section("Dependence on the separator", [told], [table])


SEPARATOR_DEPENDENCE = Task(
    "separator-dependence",
    2,
    KEY,
    _parts,
    lambda x, part, row, _: {KEY: separator_dependence_of(x, part, row)},
    _section,
    table=_table,
    separates=True,
)
