"""Draws what a bank of mixes holds: contents under chains, in blocks; numbers in, records out.

A *block* of the kind `chain` is a grid of M contents and K effect chains. A *content* is four stems that are cut at
drawn places: those of one clip, or (a share of them) each of a clip of another song. Every one of the block's K
*groups* is one chain on all M contents, so mixes of a group share what was done to them, and mixes of equal slot in a
block share what they were made of. In a share of these blocks all contents are places of one song. A block of the kind
`stems` is such a grid too, but its processed stems are kept: they are not summed and separated again. A block of the
kind `own` has no chain: each of its groups holds M places of one song, as that song is.

Everything follows from the settings, the songs and the numbers of block, group and slot: no draw depends on another
block's, so that blocks may be drawn in any order, anywhere.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import MixChain

Kind = Literal["chain", "stems", "own"]
NO_CHAIN = MixChain(((),) * len(STEMS))
"""What is done to an own mix: nothing."""
_GOLDEN = (5**0.5 - 1) / 2
_CONTENTS, _CHAIN, _LEVEL, _OWN, _SONG = range(5)  # what a seed is for


@dataclass(frozen=True)
class GridSettings:
    """How a grid is drawn.

    blocks, contents (M), chains_per_block (K): its size. clip_frames: of a mix. effects: the least and the most effects
    of a chain. mixed_share: of contents, those whose stems are of four songs. levels_share: of chains, those without an
    effect, which set loudnesses alone. own_share: of blocks, those of the kind `own`. stems_share: of the other blocks,
    those of the kind `stems`. song_share: of the other blocks, those whose contents are all of one song.
    level_range_db: a mix's level is drawn within plus and minus it.
    """

    blocks: int
    contents: int
    chains_per_block: int
    clip_frames: int
    effects: tuple[int, int] = (1, 8)
    mixed_share: float = 0.25
    levels_share: float = 0.1
    own_share: float = 0.1
    stems_share: float = 0.0
    song_share: float = 0.0
    level_range_db: float = 6.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A place that stems are taken from: a song, one of its clips, and a frame of that clip."""

    song: int
    clip: int
    start_frame: int


@dataclass(frozen=True, slots=True)
class MixDraw:
    """A mix to be made. donors: where each stem is from, in the order of `STEMS`. content: equal for equal donors."""

    donors: tuple[Source, ...]
    content: int
    gain_db: float


@dataclass(frozen=True, slots=True)
class GroupDraw:
    """A chain with its mixes, one a slot, or the own mixes of a song. place: which group of its block it is."""

    kind: Kind
    block: int
    place: int
    split: str
    chain: MixChain
    mixes: tuple[MixDraw, ...]


@dataclass(frozen=True)
class GridSongs:
    """The songs of a split. clips: how many each has. clip_frames: of each clip."""

    clips: Sequence[int]
    clip_frames: int


def group_path(kind: str, block: int, place: int) -> str:
    """What a group is called, as the path of its track.

    >>> group_path("chain", 12, 2)
    'chain/000012/2'
    """
    return f"{kind}/{block:06d}/{place}"


def parse_group_path(path: str) -> tuple[str, int, int]:
    """Kind, block and place of a path that `group_path` made. Raises ValueError for another one.

    >>> parse_group_path("own/000003/1")
    ('own', 3, 1)
    """
    parts = path.split("/")
    if len(parts) != 3 or not (parts[1].isdecimal() and parts[2].isdecimal()):
        raise ValueError(f"{path!r} names no group of a bank")
    return parts[0], int(parts[1]), int(parts[2])


def usable_splits(settings: GridSettings, songs: Mapping[str, GridSongs]) -> tuple[str, ...]:
    """The splits that a grid can be made of, in their order: those with as many songs as a block has contents."""
    return tuple(
        split
        for split, own in songs.items()
        if len(own.clips) >= max(settings.contents, 2) and own.clip_frames >= settings.clip_frames
    )


def draw_block(settings: GridSettings, songs: Mapping[str, GridSongs], block: int) -> list[GroupDraw]:
    """The K groups of a block.

    songs: by split. A split gets blocks by its number of songs. Raises ValueError where no split can be used.
    """
    splits = usable_splits(settings, songs)
    if not splits:
        raise ValueError(f"no split holds {settings.contents} songs with clips of {settings.clip_frames} frames")
    kind = block_kind(settings, block)
    split = _split_of(splits, songs, settings.seed, block)
    if kind == "own":
        return _own_groups(settings, songs[split], split, block)
    return _chain_groups(settings, songs[split], kind, split, block)


def block_kind(settings: GridSettings, block: int) -> Kind:
    """What a block is of: it follows from the settings alone.

    >>> [block_kind(GridSettings(4, 6, 4, 100, own_share=0.5), block) for block in range(4)]
    ['own', 'chain', 'own', 'chain']
    """
    own, own_after = (_counted(settings.own_share, blocks) for blocks in (block, block + 1))
    if own_after > own:
        return "own"
    others = block - own
    return "stems" if _counted(settings.stems_share, others + 1) > _counted(settings.stems_share, others) else "chain"


def _counted(share: float, blocks: int) -> int:
    """How many of the first blocks are of a kind with this share: they are spread evenly among the others."""
    return int(share * blocks + 0.5)


def _split_of(splits: Sequence[str], songs: Mapping[str, GridSongs], seed: int, block: int) -> str:
    """Splits by their numbers of songs: a golden-ratio sequence keeps every stretch of blocks near these shares."""
    counts = np.array([len(songs[split].clips) for split in splits], np.float64)
    edges = np.cumsum(counts / counts.sum())
    place = (np.random.default_rng([seed, 9]).random() + block * _GOLDEN) % 1.0
    return splits[min(int(np.searchsorted(edges, place, side="right")), len(splits) - 1)]


def _chain_groups(settings: GridSettings, songs: GridSongs, kind: Kind, split: str, block: int) -> list[GroupDraw]:
    contents = _draw_contents(settings, songs, block)
    return [
        GroupDraw(
            kind,
            block,
            place,
            split,
            _draw_chain(settings, block, place),
            tuple(
                MixDraw(donors, _content_id(settings, block, 0, slot), _draw_gain_db(settings, block, place, slot))
                for slot, donors in enumerate(contents)
            ),
        )
        for place in range(settings.chains_per_block)
    ]


def _content_id(settings: GridSettings, block: int, place: int, slot: int) -> int:
    """A number of its own for each content; those of a block with chains have place 0."""
    return (block * settings.chains_per_block + place) * settings.contents + slot


def _draw_chain(settings: GridSettings, block: int, place: int) -> MixChain:
    rng = np.random.default_rng([settings.seed, _CHAIN, block, place])
    least, most = settings.effects
    levels = rng.random() < settings.levels_share
    effects = int(rng.integers(least, most + 1))
    return draw_chain(rng, 0 if levels else effects)


def _draw_gain_db(settings: GridSettings, block: int, place: int, slot: int) -> float:
    rng = np.random.default_rng([settings.seed, _LEVEL, block, place, slot])
    return float(rng.uniform(-settings.level_range_db, settings.level_range_db))


def _draw_contents(settings: GridSettings, songs: GridSongs, block: int) -> list[tuple[Source, ...]]:
    """M contents of M songs, or of one. The further donors of mixed ones are songs that the block has not had, while
    there are."""
    draw = np.random.default_rng([settings.seed, _SONG, block])
    if draw.random() < settings.song_share:
        song = int(draw.integers(len(songs.clips)))
        return [(source,) * len(STEMS) for source in _own_places(settings, songs, song, draw)]
    rng = np.random.default_rng([settings.seed, _CONTENTS, block])
    order = rng.permutation(len(songs.clips))
    own, others = order[: settings.contents], order[settings.contents :]
    mixed = rng.random(settings.contents) < settings.mixed_share
    taken = 0
    contents = []
    for song, mix in zip(own, mixed, strict=True):
        if not mix:
            contents.append((_draw_source(rng, songs, int(song), settings.clip_frames),) * len(STEMS))
            continue
        more = [int(other) for other in others[taken : taken + len(STEMS) - 1]]
        taken += len(more)
        left = [int(other) for other in order if other != song and int(other) not in more]
        while len(more) < len(STEMS) - 1:
            more.append(left.pop(0) if left else int(song))
        several = [int(song), *more]
        placed = [several[i] for i in rng.permutation(len(STEMS))]
        contents.append(tuple(_draw_source(rng, songs, one, settings.clip_frames) for one in placed))
    return contents


def _draw_source(rng: np.random.Generator, songs: GridSongs, song: int, frames: int) -> Source:
    clip = int(rng.integers(songs.clips[song]))
    return Source(song, clip, int(rng.integers(songs.clip_frames - frames + 1)))


def _own_groups(settings: GridSettings, songs: GridSongs, split: str, block: int) -> list[GroupDraw]:
    """K songs, each at M places."""
    rng = np.random.default_rng([settings.seed, _OWN, block])
    order = rng.permutation(len(songs.clips))
    groups = []
    for place in range(settings.chains_per_block):
        song = int(order[place % len(order)])
        mixes = tuple(
            MixDraw((source,) * len(STEMS), _content_id(settings, block, place, slot), 0.0)
            for slot, source in enumerate(_own_places(settings, songs, song, rng))
        )
        groups.append(GroupDraw("own", block, place, split, NO_CHAIN, mixes))
    return groups


def _own_places(settings: GridSettings, songs: GridSongs, song: int, rng: np.random.Generator) -> list[Source]:
    """M places of a song, spread over its clips; those of one clip overlap only where it has no room for them.

    Fewer where even places that overlap by three quarters are not so many.
    """
    clips, frames = songs.clips[song], settings.clip_frames
    most = 1 + (songs.clip_frames - frames) // max(1, frames // 4)
    of_clip = [min(most, len(range(turn, settings.contents, clips))) for turn in range(clips)]
    found = []
    for clip, count in zip(rng.permutation(clips), of_clip, strict=True):
        room = songs.clip_frames - count * frames
        if room >= 0:
            gaps = np.sort(rng.integers(room + 1, size=count))
            starts = [int(gap) + i * frames for i, gap in enumerate(gaps)]
        else:
            starts = [int(start) for start in np.linspace(0, songs.clip_frames - frames, count)]
        found += [Source(song, int(clip), start) for start in starts]
    return [found[i] for i in rng.permutation(len(found))]
