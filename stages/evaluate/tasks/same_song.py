"""Task `songs`: the last clip of each song asks for its first one, both as they are."""

from collections.abc import Sequence

from mixstyle.cache.stem_store.stem_cache import CachedTrack
from mixstyle.stages.evaluate.tasks.metrics import retrieval_of_halves
from mixstyle.stages.evaluate.tasks.task import Column, Item, PageInput, Part, Task
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "song_retrieval"


def ends(songs: Sequence[CachedTrack]) -> Part:
    """The last clip of every song, then the first of every song, as they are."""
    pairs = [(song.clips[-1], song.clips[0]) for song in songs]
    items = tuple(Item(pair[side]) for side in (0, 1) for pair in pairs)
    return Part(KEY, tuple(range(len(songs))) * 2, lambda: items)


def _section(page: PageInput) -> Section:
    found = page.metrics[KEY]
    cells = [(row, [percent_cell(found[row], f"r{k}") for k in (1, 5)]) for row in page.rows]
    told = "The last clip of a song asks for its first: what an embedding of mixes knows of a song's own mix."
    as_is = "given stems as they are" if page.metrics.get("stems_given") else "mixes as they are"
    return Section(f"Song retrieval ({as_is})", [told], [Table("", ["", "top-1", "top-5"], cells)])


SAME_SONG = Task(
    "songs",
    1,
    KEY,
    lambda context: [ends(context.songs)],
    lambda x, part, row, _: {KEY: retrieval_of_halves(x, part.songs, row)},
    _section,
    (Column("song top-1, %", KEY, lambda entry: percent(entry, "r1"), "chance_r1"),),
)
