"""Tasks `content-hard` (through the mix) and `stems-content-hard` (stems as processed): effect chains on every song.

All candidates of a query are its own clip in another chain, but one, which is another song's clip in the query's chain.
On the same grid, leakage: how well a linear probe tells the song.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.retrieval import principal_components
from mixstyle.stages.evaluate.tasks.metrics import classifier, comparable, estimate, out_of_fold
from mixstyle.stages.evaluate.tasks.page_parts import first_of, rows_with_a_panel
from mixstyle.stages.evaluate.tasks.task import Column, Context, Cut, Embeddings, PageInput, Part, Task, some_of
from mixstyle.stages.evaluate.tasks.variants import AS_PROCESSED, THROUGH_MIX, Variant, Way
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.figures import SONG_COLOURS, SONG_MARKERS, saved_figure
from mixstyle.stages.presentation.html import PageFigure, Section, Table

KEY, LEAKAGE = "content_hard", "leakage"
MOST_MAPPED = 8
"""Chains that the map shows: as many as there are colours that people tell apart, and one."""


def content_hard(
    songs: Sequence[CachedTrack], cut: Cut, chains: int, effects: int, seed: int, name: str, way: Way
) -> Part:
    """A grid: each of `chains` chains on one stretch of a clip of every song, chain by chain."""
    rng = np.random.default_rng([seed, 1])
    clips = [cut.drawn(rng, song.clips[int(rng.integers(len(song.clips)))]) for song in songs]
    drawn = [draw_chain(np.random.default_rng([seed, 2, i]), effects) for i in range(chains)]
    items = tuple(replace(clip, steps=(chain,)) for chain in drawn for clip in clips)
    return Part(name, tuple(range(len(songs))) * chains, lambda: items, way)


def hard_of(embeddings: Embeddings, chains: int, row: str) -> dict[str, float]:
    """Share of queries whose nearest of `chains` candidates is the other content in their own chain."""
    grid = comparable(embeddings, row).reshape(chains, -1, embeddings.shape[1])
    rng = np.random.default_rng(0)
    right, songs = [], []
    count = grid.shape[1]
    for chain in range(chains):
        for song in range(count):
            other = (song + 1 + int(rng.integers(count - 1))) % count
            wrong = np.delete(grid[:, song], chain, axis=0) @ grid[chain, song]
            right.append(float(grid[chain, other] @ grid[chain, song] > wrong.max()))
            songs.append(song)
    return estimate("r1", np.array(right), np.array(songs)) | {"chance_r1": 1 / chains}


def leakage_of(embeddings: Embeddings, part: Part, chains: int, row: str) -> dict[str, float]:
    """Share of clips whose song a linear probe tells, trained on other chains of the same clips; chance is 1 in songs.

    Lower is better, where the mix is to be known apart from the song.
    """
    songs = np.array(part.songs)
    chain = np.repeat(np.arange(chains), len(songs) // chains)
    found = out_of_fold(classifier(), comparable(embeddings, row), songs, chain)
    return estimate("accuracy", found == songs, songs) | {"chance": 1 / len(np.unique(songs))}


def _parts(context: Context, variant: Variant, key: str) -> list[Part]:
    options = context.options
    songs = some_of(context.songs, options.hard_songs, options.seed)
    return [content_hard(songs, context.cut, options.hard_chains, options.hard_effects, options.seed, key, variant.way)]


def _draw(page: PageInput, variant: Variant) -> PageFigure:
    path = page.folder / f"{variant.key}map.png"
    shown, chains = rows_with_a_panel(page.rows), page.options.hard_chains
    count = min(chains, MOST_MAPPED)
    with saved_figure(path, 4.0 * len(shown), 4.3) as figure:
        for axes, row in zip(np.atleast_1d(figure.subplots(1, len(shown))), shown, strict=True):
            songs = len(page.embeddings[row]) // chains
            points, share = principal_components(comparable(page.embeddings[row], row)[: count * songs])
            for chain in range(count):
                here = points[chain * songs : (chain + 1) * songs]
                colour, marker = (*SONG_COLOURS, "#777777")[chain], (*SONG_MARKERS, "*")[chain]
                axes.scatter(here[:, 0], here[:, 1], s=30, c=colour, marker=marker, edgecolors="white", linewidths=0.5)
            axes.set_title(row)
            axes.set_xlabel(f"first principal component ({share[0]:.0%})")
            axes.set_ylabel(f"second ({share[1]:.0%})")
            axes.set_xticks([])
            axes.set_yticks([])
    return PageFigure(path, "Map by chain", f"{count} chains on every song: a colour is a chain.")


def _section(page: PageInput, variant: Variant) -> Section:
    hard, leakage = page.metrics[f"{variant.key}{KEY}"], page.metrics[f"{variant.key}{LEAKAGE}"]
    cells = [(row, [percent_cell(hard[row], "r1"), percent_cell(leakage[row], "accuracy")]) for row in page.rows]
    chance = [first_of(hard, "chance_r1"), first_of(leakage, "chance")]
    cells.append(("chance", [(f"{100 * value:.1f}", "") for value in chance]))
    told = (
        f"Of {page.options.hard_chains} candidates all share the query's content but one, which has its chain: R@1 is "
        "below chance where an embedding follows content. The song probe is a linear classifier of the song, trained "
        f"on other chains of the same clips: the lower, the less it tells. {variant.told}"
    )
    table = Table("", ["", "content-hard R@1", "song probe"], cells)
    return Section(f"Content ({variant.words})", [told], [table], [_draw(page, variant)])


def content_hard_task(variant: Variant, version: int) -> Task:
    """The task in one of its variants."""
    key, leakage, short = f"{variant.key}{KEY}", f"{variant.key}{LEAKAGE}", variant.name.replace("-", ": ")
    return Task(
        f"{variant.name}content-hard",
        version,
        key,
        partial(_parts, variant=variant, key=key),
        lambda x, part, row, options: {
            key: hard_of(x, options.hard_chains, row),
            leakage: leakage_of(x, part, options.hard_chains, row),
        },
        partial(_section, variant=variant),
        (
            Column(f"{short}content-hard R@1, %", key, lambda entry: percent(entry, "r1"), "chance_r1"),
            Column(f"{short}song probe, %", leakage, lambda entry: percent(entry, "accuracy"), "chance"),
        ),
        keeps_embeddings=True,
    )


CONTENT_HARD = content_hard_task(THROUGH_MIX, 2)
STEMS_CONTENT_HARD = content_hard_task(AS_PROCESSED, 1)
