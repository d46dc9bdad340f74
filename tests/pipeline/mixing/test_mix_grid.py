"""Grids of contents and chains: what is shared, what is apart, and that draws hang on nothing else."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_grid import (
    GridSettings,
    GridSongs,
    GroupDraw,
    MixDraw,
    draw_block,
    parse_group_path,
    usable_splits,
)

RATE = 44_100
SETTINGS = GridSettings(blocks=400, contents=6, chains_per_block=4, clip_frames=4 * RATE, seed=3)
SONGS = {"train": GridSongs([4] * 60, 10 * RATE), "validation": GridSongs([3] * 20, 10 * RATE)}


@pytest.fixture(scope="module")
def blocks() -> list[list[GroupDraw]]:
    return [draw_block(SETTINGS, SONGS, block) for block in range(SETTINGS.blocks)]


def songs_of(mix: MixDraw) -> set[int]:
    return {donor.song for donor in mix.donors}


def test_a_block_is_a_grid(blocks: list[list[GroupDraw]]) -> None:
    contents: Counter[int] = Counter()
    for number, block in enumerate(blocks):
        assert [(group.block, group.place) for group in block] == [(number, place) for place in range(4)]
        assert len({(group.kind, group.split) for group in block}) == 1
        if block[0].kind == "chain":
            for slot in zip(*(group.mixes for group in block), strict=True):
                assert len({(mix.content, mix.donors) for mix in slot}) == 1
            contents.update(mix.content for mix in block[0].mixes)
            assert len({str(group.chain) for group in block}) == 4
            donors = [song for mix in block[0].mixes for song in songs_of(mix)]
            if block[0].split == "train":  # 60 songs suffice for 6 contents of 4
                assert len(set(donors)) == len(donors), "no song twice in a block"
        else:
            contents.update(mix.content for group in block for mix in group.mixes)
    assert set(contents.values()) == {1}, "a content's number is its own"


def test_shares_are_those_that_were_asked_for(blocks: list[list[GroupDraw]]) -> None:
    chains = [block for block in blocks if block[0].kind == "chain"]
    assert len(blocks) - len(chains) == 40
    # binomial draws of 2,160 contents and 1,440 chains: five standard deviations are 0.047 and 0.04
    mixed = np.mean([len(songs_of(mix)) == 4 for block in chains for mix in block[0].mixes])
    assert mixed == pytest.approx(0.25, abs=0.047)
    assert all(len(songs_of(mix)) in (1, 4) for block in chains for mix in block[0].mixes)
    counts = Counter(len(group.chain.stems[0]) for block in chains for group in block)
    assert counts[0] / (4 * len(chains)) == pytest.approx(0.1, abs=0.04)
    assert set(counts) == set(range(9))
    sides = Counter(block[0].split for block in blocks)
    assert sides["validation"] / 400 == pytest.approx(20 / 80, abs=0.01)  # a low-discrepancy sequence: 3 / N
    gains = [mix.gain_db for block in chains for group in block for mix in group.mixes]
    assert -6 <= min(gains) < -5.9 < 5.9 < max(gains) <= 6
    assert len(set(gains)) == len(gains)


def test_places_lie_within_their_clips(blocks: list[list[GroupDraw]]) -> None:
    for block in blocks:
        songs = SONGS[block[0].split]
        for donor in {donor for group in block for mix in group.mixes for donor in mix.donors}:
            assert 0 <= donor.song < len(songs.clips)
            assert 0 <= donor.clip < songs.clips[donor.song]
            assert 0 <= donor.start_frame <= 6 * RATE


def test_own_groups_are_places_of_one_song_that_do_not_overlap(blocks: list[list[GroupDraw]]) -> None:
    groups = [group for block in blocks for group in block if group.kind == "own"]
    for group in groups:
        assert not any(group.chain.stems)
        assert {mix.gain_db for mix in group.mixes} == {0.0}
        assert len(set.union(*(songs_of(mix) for mix in group.mixes))) == 1
        starts: dict[int, list[int]] = {}
        for mix in group.mixes:
            starts.setdefault(mix.donors[0].clip, []).append(mix.donors[0].start_frame)
        assert len(starts) == SONGS[group.split].clips[0], "every clip of the song is used"
        for places in starts.values():
            assert (np.diff(sorted(places)) >= 4 * RATE).all()
    # where a song has no room for six of them, they overlap
    tight = {"train": GridSongs([1] * 6, 10 * RATE)}
    own = draw_block(GridSettings(1, 6, 2, 4 * RATE, own_share=1.0), tight, 0)
    starts_of = [sorted(mix.donors[0].start_frame for mix in group.mixes) for group in own]
    assert all(len(set(places)) == 6 and places[-1] <= 6 * RATE for places in starts_of)
    # and where a cached clip is no longer than a mix, it is one place
    whole = {"train": GridSongs([2] * 6, 4 * RATE)}
    own = draw_block(GridSettings(1, 6, 2, 4 * RATE, own_share=1.0), whole, 0)
    assert [len({mix.donors for mix in group.mixes}) for group in own] == [2, 2]
    assert [len(group.mixes) for group in own] == [2, 2]


def test_a_share_of_blocks_has_contents_of_one_song(blocks: list[list[GroupDraw]]) -> None:
    settings = GridSettings(**{**vars(SETTINGS), "song_share": 0.3})
    alike = 0
    for number, block in enumerate(blocks):
        drawn = draw_block(settings, SONGS, number)
        if drawn == block:
            continue
        alike += 1
        assert [group.kind for group in drawn] == ["chain"] * 4
        assert [group.chain for group in drawn] == [group.chain for group in block], "chains are the earlier ones"
        assert len(set.union(*(songs_of(mix) for group in drawn for mix in group.mixes))) == 1
        places = [[mix.donors for mix in group.mixes] for group in drawn]
        assert places == [places[0]] * 4, "each chain is on the same contents"
        assert len(set(places[0])) == 6
    chains = sum(block[0].kind == "chain" for block in blocks)
    assert alike / chains == pytest.approx(0.3, abs=0.1)  # 4 deviations of 360 draws


def test_a_share_of_blocks_keeps_its_processed_stems(blocks: list[list[GroupDraw]]) -> None:
    """They are what they were, but for their kind."""
    settings = GridSettings(**{**vars(SETTINGS), "stems_share": 0.25})
    kinds: Counter[tuple[str, str]] = Counter()
    for number, block in enumerate(blocks):
        drawn = draw_block(settings, SONGS, number)
        kinds[block[0].kind, drawn[0].kind] += 1
        assert [dataclasses.replace(group, kind=block[0].kind) for group in drawn] == block
    assert kinds == {("own", "own"): 40, ("chain", "chain"): 270, ("chain", "stems"): 90}
    everything = GridSettings(**{**vars(SETTINGS), "own_share": 0.0, "stems_share": 1.0})
    assert {draw_block(everything, SONGS, number)[0].kind for number in range(8)} == {"stems"}


def test_a_block_hangs_on_no_other(blocks: list[list[GroupDraw]]) -> None:
    fewer = GridSettings(**{**vars(SETTINGS), "blocks": 5})
    for number in (399, 7, 0):
        assert draw_block(fewer, SONGS, number) == blocks[number]
    other = GridSettings(**{**vars(SETTINGS), "seed": 4})
    assert draw_block(other, SONGS, 7) != blocks[7]


def test_numbers_of_effects_and_loudness_draws() -> None:
    for effects in ((3, 3), (12, 12)):
        settings = GridSettings(3, 2, 5, RATE, effects=effects, levels_share=0.0, own_share=0.0)
        groups = [group for block in range(3) for group in draw_block(settings, SONGS, block)]
        assert {len(stem) for group in groups for stem in group.chain.stems} == {effects[0]}
        assert all(effect.name in EFFECTS for group in groups for effect in group.chain.stems[0])
    levels = GridSettings(3, 2, 5, RATE, levels_share=1.0, own_share=0.0)
    for group in draw_block(levels, SONGS, 1):
        assert group.chain.stems == ((),) * 4
        assert len(set(group.chain.stem_lufs)) == 4


def test_splits_that_are_too_small_have_no_blocks() -> None:
    songs = {"train": GridSongs([2] * 6, 10 * RATE), "validation": GridSongs([2] * 5, 10 * RATE)}
    assert usable_splits(SETTINGS, songs) == ("train",)
    assert {group.split for block in range(20) for group in draw_block(SETTINGS, songs, block)} == {"train"}
    # six songs for six contents: those of four songs take songs that the block has already, each once
    for block in range(20):
        for group in draw_block(SETTINGS, songs, block):
            assert all(len(songs_of(mix)) in (1, 4) for mix in group.mixes)
    with pytest.raises(ValueError, match=rf"\b{SETTINGS.contents}\b.*\b{SETTINGS.clip_frames}\b"):
        draw_block(SETTINGS, {"train": GridSongs([2] * 9, 3 * RATE)}, 0)


def test_what_names_no_group_is_refused() -> None:
    for path in ("song.flac", "chain/1", "chain/x/1"):
        with pytest.raises(ValueError, match=repr(path)):
            parse_group_path(path)
