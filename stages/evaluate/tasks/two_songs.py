"""Each of many chains on two different songs: what the tasks ask that look for the same chain on another song."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from mixstyle.stages.evaluate.tasks.task import Item, Part
from mixstyle.stages.evaluate.tasks.variants import Way

Chain = TypeVar("Chain")


def part_of_two_songs(
    name: str,
    way: Way,
    songs: int,
    chains: int,
    seed: Sequence[int],
    draw_chain: Callable[[np.random.Generator], Chain],
    draw_items: Callable[[int, Chain, np.random.Generator], list[Item]],
) -> Part:
    """Queries, then the pool: chain i on two different songs of so many.

    draw_chain: a chain. draw_items: the items of a song, by its place, in a chain. All that is drawn for chain i
    follows from (seed, i).
    """
    items: list[list[Item]] = [[], []]
    places: list[list[int]] = [[], []]
    for i in range(chains):
        rng = np.random.default_rng([*seed, i])
        chain = draw_chain(rng)
        for side, place in enumerate(rng.choice(songs, 2, replace=False)):
            made = draw_items(int(place), chain, rng)
            items[side] += made
            places[side] += [int(place)] * len(made)
    return Part(name, tuple(places[0] + places[1]), lambda: tuple(items[0] + items[1]), way)
