"""Task `real-mixes`: music as it is, with nothing done to it.

A song asks for the songs of its own album, soundtrack or artist among all others: its embedding is the mean of its
clips', as `mixstyle index` stores it. A clip asks for the other clips of its own song among those of all songs. Whoever
mixed an album mixed its songs alike, but they are also alike as music: what is found here is both.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.retrieval import GroupRetrieval, group_retrieval
from mixstyle.stages.evaluate.tasks.metrics import comparable, estimate, song_embeddings
from mixstyle.stages.evaluate.tasks.page_parts import first_of
from mixstyle.stages.evaluate.tasks.task import Context, Embeddings, Item, Metrics, PageInput, Part, Task, TextTable
from mixstyle.stages.presentation.estimates import percent, percent_cell
from mixstyle.stages.presentation.html import Section, Table

KEY = "real_mixes"
FIGURES = {"top1": "top-1", "precision5": "P@5", "map": "MAP"}
KINDS = {"group": "same {by}", "song": "same song, other clips"}


def real_mixes(context: Context) -> Part:
    """Every clip of every song as it is."""
    clips = [(place, clip) for place, song in enumerate(context.songs) for clip in song.clips]
    items = tuple(Item(clip) for _, clip in clips)
    return Part(KEY, tuple(place for place, _ in clips), lambda: items, groups=context.groups)


def real_mixes_of(embeddings: Embeddings, part: Part, row: str) -> dict[str, Any]:
    """Top-1, P@5 and MAP of songs that ask for their group, and of clips that ask for their song; intervals over songs.

    `group` is None where nothing tells of groups, or each song is alone in its own; the number of songs that asked, of
    groups and their sizes are beside the figures.
    """
    x, songs = comparable(embeddings, row), np.array(part.songs)
    by_song = group_retrieval(x, songs)
    found: dict[str, Any] = {"song": _figures(by_song, songs[by_song.query]), "group": None}
    groups = part.groups
    if groups is not None and len(groups.sizes) > 1:
        whole = song_embeddings(x, songs)
        asked = group_retrieval(whole, np.array(groups.numbers))
        found["group"] = {
            **_figures(asked, asked.query),
            "queries": len(asked.query),
            "songs": len(whole),
            "sizes": groups.sizes,
            "by": groups.by,
        }
    return found


def _figures(found: GroupRetrieval, songs: NDArray[np.integer]) -> dict[str, float]:
    values = {"top1": found.top1, "precision5": found.precision5, "map": found.average_precision}
    chances = {
        "top1": found.top1_chance,
        "precision5": found.precision5_chance,
        "map": found.average_precision_chance,
    }
    told: dict[str, float] = {}
    for name, each in values.items():
        told |= estimate(name, each, songs) | {f"{name}_chance": float(chances[name].mean())}
    return told


def _shown(metrics: Metrics) -> list[str]:
    """The kinds of figures that there are."""
    first = metrics[KEY][metrics["rows"][0]]
    return [kind for kind in KINDS if first[kind] is not None]


def groups_note(metrics: Metrics) -> str:
    """How many groups there are, and how large: without that, a share says little."""
    found = metrics[KEY][metrics["rows"][0]]["group"]
    if found is None:
        return "Nothing tells which songs are of one album or artist (evaluate.group_by), or all are of one."
    sizes = ", ".join(str(size) for size in found["sizes"])
    return (
        f"{found['queries']} of {found['songs']} songs are in {len(found['sizes'])} groups by {found['by']}, of "
        f"{sizes} songs."
    )


def _table(metrics: Metrics) -> TextTable:
    kinds, found = _shown(metrics), metrics[KEY]
    heads = [f"{_called(kind, metrics)}: {title}" for kind in kinds for title in FIGURES.values()]
    rows = [[row, *(percent(found[row][kind], name) for kind in kinds for name in FIGURES)] for row in metrics["rows"]]
    chances = [
        f"{100 * first_of({row: found[row][kind] for row in found}, f'{name}_chance'):.1f}"
        for kind in kinds
        for name in FIGURES
    ]
    title = f"{_title(metrics)[0].lower()}{_title(metrics)[1:]}. {groups_note(metrics)}"
    return TextTable(title, "%", heads, [*rows, ["chance", *chances]])


def _title(metrics: Metrics) -> str:
    return "Given stems as they are" if metrics.get("stems_given") else "Real mixes as they are"


def _called(kind: str, metrics: Metrics) -> str:
    if kind == "song":
        return KINDS[kind]
    return KINDS[kind].format(by=metrics[KEY][metrics["rows"][0]]["group"]["by"].partition(",")[0])


def _section(page: PageInput) -> Section:
    found, tables = page.metrics[KEY], []
    for kind in _shown(page.metrics):
        cells = [(row, [percent_cell(found[row][kind], name) for name in FIGURES]) for row in page.rows]
        chance = {row: found[row][kind] for row in page.rows}
        cells.append(("chance", [(f"{100 * first_of(chance, f'{name}_chance'):.1f}", "") for name in FIGURES]))
        tables.append(Table(_called(kind, page.metrics), ["", *FIGURES.values()], cells))
    source = (
        "The stems that were given, not separated from a mix."
        if page.metrics.get("stems_given")
        else "Music as it is, separated once, as everything that a user brings."
    )
    told = (
        f"{source} A song asks for the others of its album, soundtrack or artist, by the mean of its clips; a clip "
        "asks for the other clips of its song. Songs of one album are mixed alike, but they are alike as music too. "
        f"{groups_note(page.metrics)}"
    )
    return Section(_title(page.metrics), [told], tables)


REAL_MIXES = Task(
    "real-mixes",
    1,
    KEY,
    lambda context: [real_mixes(context)],
    lambda x, part, row, _: {KEY: real_mixes_of(x, part, row)},
    _section,
    table=_table,
)
