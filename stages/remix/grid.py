"""The groups of a grid over cached stems, drawn as they are needed."""

from collections.abc import Sequence
from functools import lru_cache
from typing import overload

from mixstyle.cache.models.separator_records import stems_were_given
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.mixing.mix_grid import GridSettings, GridSongs, GroupDraw, Kind, draw_block, usable_splits
from mixstyle.stages.common.notes import note
from mixstyle.stages.remix.mixes import CachedDonor, Group, Mix

SPLITS = ("train", "validation")
"""What training reads; songs of `test` are for evaluations, which have banks of their own."""


def separated_kinds(given: bool) -> tuple[Kind, ...]:
    """The kinds of blocks whose mixes are separated. Songs as they are were separated before; not where stems were
    given: a user has a mix of them too."""
    return ("chain", "own") if given else ("chain",)


class GridGroups(Sequence[Group]):
    """All groups of a grid, block after block.

    separators: block b goes through separator b modulo their number. Raises MixstyleError ("misfit") for stems that
    the grid cannot be drawn from.
    """

    def __init__(self, settings: GridSettings, cache: StemCache, separators: int = 1) -> None:
        self.settings, self._separators = settings, separators
        self._separated = separated_kinds(stems_were_given(cache.provenance))
        self._tracks: dict[str, list[CachedTrack]] = {
            split: [track for track in cache.tracks if track.split == split] for split in SPLITS
        }
        self._songs = {
            split: GridSongs([len(track.clips) for track in tracks], cache.clip_frames)
            for split, tracks in self._tracks.items()
        }
        self.splits = usable_splits(settings, self._songs)
        """Those that have blocks."""
        if settings.blocks and not self.splits:
            counts = ", ".join(f"{len(songs.clips)} {split}" for split, songs in self._songs.items())
            raise MixstyleError(
                f"{cache.stems_dir}: {counts} songs with clips of {cache.clip_frames} frames; a block takes "
                f"{settings.contents} songs of one split and {settings.clip_frames} frames: set remix.contents or "
                "remix.clip_s lower, or separate more music",
                code="misfit",
            )
        if settings.blocks and "train" not in self.splits:
            note(
                f"warning: {cache.stems_dir}: {len(self._songs['train'].clips)} songs are for training, and a block "
                f"takes {settings.contents}: no group will be for training; separate more music, or set "
                "separate.validation_fraction and separate.test_fraction lower"
            )
        self._block = lru_cache(maxsize=4)(self._drawn)

    def __len__(self) -> int:
        return self.settings.blocks * self.settings.chains_per_block

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> list[Group]: ...
    def __getitem__(self, index: int | slice) -> Group | list[Group]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        block, place = divmod(index, self.settings.chains_per_block)
        return self._block(block)[place]

    def _drawn(self, block: int) -> list[Group]:
        return [self._group(drawn) for drawn in draw_block(self.settings, self._songs, block)]

    def _group(self, drawn: GroupDraw) -> Group:
        tracks = self._tracks[drawn.split]
        mixes = []
        for mix in drawn.mixes:
            donors = {
                source: CachedDonor(tracks[source.song].clips[source.clip], source.start_frame) for source in mix.donors
            }
            placed = tuple(donors[source] for source in mix.donors)
            mixes.append(Mix(placed, drawn.chain, mix.gain_db, drawn.kind in self._separated, mix.content))
        separator = drawn.block % self._separators
        return Group(drawn.kind, drawn.block, drawn.place, drawn.split, tuple(mixes), separator)
