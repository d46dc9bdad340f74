"""Task `same-chain` and its variants (`songs-`, `stems-`, `true-`): the same chain on another song is to be found.

Clips of two different songs are mixed with effect chain i; the one is the query, the other is in a pool with those
of all N chains. So N counts chains, and the distractors may hold the query's own song under another chain. A chain of
0 effects is the loudnesses alone that stems are brought to, which are part of every chain.

`same-chain` goes through the mix: the processed stems are summed and separated again before they are embedded.
`songs-same-chain` does so too, with whole songs for single clips: of each song several stretches are mixed with the
chain, and the song's embedding is the mean of theirs, as `mixstyle index` and `mixstyle embed` make it.
`stems-same-chain` embeds the stems as they were processed, `true-same-chain` the true stems of rendered songs.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mixstyle.cache.stem_store.stem_cache import CachedClip
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import MixChain
from mixstyle.stages.evaluate.tasks.metrics import SMALL_POOL, retrieval_of_halves
from mixstyle.stages.evaluate.tasks.page_parts import BASELINES, colours_of, first_of, number
from mixstyle.stages.evaluate.tasks.rendered_songs import rendered_clips
from mixstyle.stages.evaluate.tasks.song_stretches import mixed_song
from mixstyle.stages.evaluate.tasks.task import (
    Context,
    Cut,
    Embeddings,
    Item,
    Metrics,
    PageInput,
    Part,
    ReadsStems,
    Task,
    TextTable,
)
from mixstyle.stages.evaluate.tasks.two_songs import part_of_two_songs
from mixstyle.stages.evaluate.tasks.variants import AS_PROCESSED, THROUGH_MIX, TRUE_STEMS, WHOLE_SONGS, Variant, Way
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.figures import saved_figure
from mixstyle.stages.presentation.html import PageFigure, Section, Table
from mixstyle.stages.settings.evaluate import EvaluateSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Clips = Sequence[Sequence[CachedClip | ReadsStems]]
"""Clips by song."""


def same_chain(songs: Clips, cut: Cut, effects: int, chains: int, seed: int, name: str, way: Way) -> Part:
    """Queries, then the pool: chain i on clips of two different songs."""

    def drawn(place: int, chain: MixChain, rng: np.random.Generator) -> list[Item]:
        clips = songs[place]
        return [cut.drawn(rng, clips[int(rng.integers(len(clips)))], chain)]

    chain_of = partial(draw_chain, effects=effects)
    return part_of_two_songs(name, way, len(songs), chains, (seed, 0, effects), chain_of, drawn)


def songs_same_chain(context: Context, effects: int, name: str, way: Way) -> Part:
    """Queries, then the pool, a song's stretches one after the other: chain i on two different songs."""
    options, songs = context.options, context.songs

    def drawn(place: int, chain: MixChain, rng: np.random.Generator) -> list[Item]:
        return mixed_song(context.cache, songs[place].clips, chain, options.song_stretches, context.cut, rng)

    chain_of, seed = partial(draw_chain, effects=effects), (options.seed, 11, effects)
    return part_of_two_songs(name, way, len(songs), options.chains, seed, chain_of, drawn)


def _parts(context: Context, variant: Variant, key: str) -> list[Part]:
    options, cut = context.options, context.cut
    if variant is WHOLE_SONGS:
        return [songs_same_chain(context, n, f"{key}_{n}", variant.way) for n in options.effects]
    songs: Clips = [song.clips for song in context.songs]
    if variant is TRUE_STEMS:
        if options.rendered_dir is None:
            return []
        songs = rendered_clips(options.rendered_dir, context.cache.clip_frames / SAMPLE_RATE, options.songs)
    return [same_chain(songs, cut, n, options.chains, options.seed, f"{key}_{n}", variant.way) for n in options.effects]


def _measure(
    x: Embeddings, part: Part, row: str, options: EvaluateSettings, variant: Variant, key: str
) -> dict[str, Any]:
    clips = options.song_stretches if variant is WHOLE_SONGS else 1
    # the number of effects is in the part's name
    return {f"{key}.{part.name.removeprefix(f'{key}_')}": retrieval_of_halves(x, part.songs, row, clips)}


def _table(metrics: Metrics, variant: Variant, key: str) -> TextTable:
    found, numbers = metrics[key], list(metrics[key])
    rows = [[row, *(percent(found[n][row], "r1") for n in numbers)] for row in metrics["rows"]]
    rows.append(["chance", *(f"{100 * first_of(found[n], 'chance_r1'):.1f}" for n in numbers)])
    title = f"{variant.words}: same chain, different content, N = {metrics['chains']} chains, by number of effects"
    return TextTable(title, "R@1, %", numbers, rows)


def draw_curves(axes: "Axes", found: Mapping[str, Any], rows: Sequence[str]) -> None:
    """R@1 of each row by the number of effects, in percent, over its 95% interval; chance is dotted.

    found: of each number of effects, as text, the metrics of the rows.
    """
    numbers, colours = [int(n) for n in found], colours_of(rows)
    for row in rows:
        values, low, high = ([100 * found[str(n)][row][name] for n in numbers] for name in ("r1", "r1_low", "r1_high"))
        axes.fill_between(numbers, low, high, color=colours[row], alpha=0.13, linewidth=0)
        dashes = "--" if row in BASELINES else "-"
        axes.plot(numbers, values, dashes, marker="o", markersize=4.5, color=colours[row], label=row)
    chance = [100 * first_of(found[str(n)], "chance_r1") for n in numbers]
    axes.plot(numbers, chance, ":", color="black", linewidth=1.2, label="chance")
    axes.set_xticks(numbers)
    axes.set_ylim(0, 100)


def _draw(page: PageInput, variant: Variant, key: str) -> PageFigure:
    path = page.folder / f"{key}.png"
    with saved_figure(path, 7.2, 4.4) as figure:
        axes = figure.subplots()
        draw_curves(axes, page.metrics[key], page.rows)
        axes.set_xlabel("effects in the chain (0: the stems' loudnesses alone)")
        axes.set_ylabel(f"R@1, {variant.words} (%)")
        figure.legend(loc="outside right center", fontsize=9)
    return PageFigure(path, "R@1 by the number of effects", "R@1 by the number of effects; bands are 95% intervals.")


def _section(page: PageInput, variant: Variant, key: str) -> Section:
    found, chains = page.metrics[key], page.metrics["chains"]
    what = f"{page.options.song_stretches} stretches each" if variant is WHOLE_SONGS else "clips"
    told = (
        f"{chains} chains for each number of effects, each on {what} of two different songs; the one asks for the "
        "other among those of all chains, by cosine. N counts chains; other chains may be on the query's own song. "
        f"{variant.told}"
    )
    small = chains > SMALL_POOL
    head = ["", "R@1", "R@5", "R@10", *([f"R@1 of {SMALL_POOL}"] if small else []), "median rank", "MRR"]
    names = ("r1", "r5", "r10", *(["r1_small_pool"] if small else []))
    tables = []
    for n, entries in found.items():
        cells = [
            (
                row,
                [percent_cell(entries[row], name) for name in names]
                + [number(entries[row]["median_rank"], 0), number(entries[row]["mrr"])],
            )
            for row in page.rows
        ]
        caption = {"0": "no effect: loudnesses alone", "1": f"1 effect, among {chains}"}
        tables.append(Table(caption.get(n, f"{n} effects, among {chains}"), head, cells))
    return Section(f"Same chain, different content ({variant.words})", [told], tables, [_draw(page, variant, key)])


def same_chain_task(variant: Variant, version: int) -> Task:
    """The task in one of its variants."""
    key = f"{variant.key}same_chain"
    return Task(
        f"{variant.name}same-chain",
        version,
        key,
        partial(_parts, variant=variant, key=key),
        partial(_measure, variant=variant, key=key),
        partial(_section, variant=variant, key=key),
        table=partial(_table, variant=variant, key=key),
    )


SAME_CHAIN = same_chain_task(THROUGH_MIX, 2)
SONGS_SAME_CHAIN = same_chain_task(WHOLE_SONGS, 1)
STEMS_SAME_CHAIN = same_chain_task(AS_PROCESSED, 1)
TRUE_SAME_CHAIN = same_chain_task(TRUE_STEMS, 1)
