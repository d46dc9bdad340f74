"""What a match tells beside what it sets: why something was left alone, and what to expect."""

from collections.abc import Mapping, Sequence
from typing import Any

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import GENTLE, Strip
from mixstyle.pipeline.matching.mix_search import CLOSED_FORM, NOTHING, Searched
from mixstyle.stages.songs.clips import SongClips
from mixstyle.stages.songs.whole_song import WholeSong

SHORT_S = 8.0
"""A song below that is too short for its octaves to be those of its mix, and not of its notes."""
MOST_CLIPPED = 100
"""Samples at the highest level; fewer are a moment that nobody hears."""


def song_notes(
    song: WholeSong, read: Sequence[SongClips], made: Mapping[str, Any], strips: Sequence[Strip]
) -> list[str]:
    """Of the song and of what is set. read: the song and its references. made: as `MatchChain` has it."""
    notes = []
    if song.look.clipped > MOST_CLIPPED:
        notes.append(
            f"the song is clipped: {song.look.clipped} samples are at its highest level; a match cannot undo that"
        )
    if made["amount"] == 0:
        notes.append("amount 0: nothing is set on the stems or on the mix")
        return notes
    if set(made["keep"]) == set(STEMS):
        notes.append("all stems are kept: only the loudness of the whole song is set")
        return notes
    notes += [
        f"{one.name} lasts {one.duration_s:.1f} s: an equaliser that is computed from so little follows its notes; "
        "--amount 0.5 makes half of each change"
        for one in read
        if one.duration_s < SHORT_S
    ]
    if made["bounds"] == GENTLE.name:
        notes.append(
            f"the separator is the small one, whose stems contain parts of each other: {GENTLE.share:.0%} of each "
            f"difference is set on a stem, within {GENTLE.gain_db:g} dB of gain and "
            f"{GENTLE.share * GENTLE.filter_db:g} dB of filters"
        )
    if not any(strip.changes for strip in strips):
        notes.append("nothing to change on a stem: the song is already like the reference, or a note says why")
    return notes


def search_notes(searched: Searched | None) -> list[str]:
    """How near each way came; none without a search."""
    if searched is None:
        return []
    told = searched.distances
    line = f"effects by search: {told[NOTHING]:.2f} from the reference as it is, {told[CLOSED_FORM]:.2f} by closed form"
    if searched.chosen == NOTHING:
        return [f"{line}: nothing is set"]
    return [line if searched.chosen == CLOSED_FORM else f"{line}, {told[searched.chosen]:.2f} with {searched.chosen}"]
