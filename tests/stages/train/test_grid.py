"""Batches out of a bank: whole blocks, the same with any number of workers, and what a step makes of them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_bank import make_bank

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.train.data import load_batches
from mixstyle.stages.train.grid import BankItems, BlockReader, blocks_of, contents_of

CLIP_S = 1.0


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> StemCache:
    folder = tmp_path_factory.mktemp("grid") / "bank"
    make_bank(folder, blocks=5, groups=2, contents=3, clip_s=CLIP_S, own=1)
    return StemCache(folder)


@pytest.fixture(scope="module")
def rows(bank: StemCache) -> np.ndarray:
    values = np.full((bank.n_rows, describe(torch.zeros(1, 4, 2, 44_100)).shape[1]), np.nan, np.float32)
    for track in bank.tracks:
        stems = torch.from_numpy(np.stack([bank.read_clip(clip) for clip in track.clips]))
        values[[clip.row for clip in track.clips]] = describe(stems).numpy()
    return values


def items_of(bank: StemCache, rows: np.ndarray, batch_size: int = 4, clip_s: float = CLIP_S) -> BankItems:
    frames = round(clip_s * 44_100)
    return BankItems(bank, "train", rows, seed=3, batch_size=batch_size, clip_frames=frames, describe_here=True)


def test_batches_are_whole_blocks_and_every_block_comes_once_an_epoch(bank: StemCache, rows: np.ndarray) -> None:
    data = items_of(bank, rows)
    assert (data.block_groups, data.steps_per_epoch, len(data.tracks)) == (2, 2, 8)
    seen = []
    for batch in load_batches(BlockReader(data), [(0, 0), (0, 1)], 0):
        paths = [track.path for track in data.tracks if track.track_id in batch.track_ids]
        blocks = [path.rpartition("/")[0] for path in paths]
        assert all(blocks.count(block) == 2 for block in blocks)
        seen += batch.track_ids
    assert sorted(seen) == sorted(track.track_id for track in data.tracks)


def test_rows_are_slot_by_slot_with_their_groups_and_contents(bank: StemCache, rows: np.ndarray) -> None:
    data = items_of(bank, rows)
    batch = next(load_batches(BlockReader(data), [(0, 0)], 0))
    assert batch.groups is not None
    assert batch.contents is not None
    by_id = {track.track_id: track for track in data.tracks}
    for slot in range(3):
        for place, track_id in enumerate(batch.track_ids):
            row, track = slot * 4 + place, by_id[track_id]
            assert np.array_equal(batch.stems[row].numpy(), bank.read_clip(track.clips[slot]))
            assert np.array_equal(batch.descriptors[row].numpy(), rows[track.clips[slot].row])
            assert batch.groups[row] == track.index
            assert batch.contents[row] == contents_of(track)[slot]
    kinds = [by_id[track_id].path.split("/")[0] for track_id in batch.track_ids]
    assert batch.parameters is not None
    told = batch.parameters.isfinite().any(1)
    assert told.tolist() == [kind == "chain" for kind in kinds] * 3


def test_equal_contents_are_equal_music_and_own_mixes_have_none(bank: StemCache) -> None:
    tracks = {track.path: track for track in bank.tracks}
    assert contents_of(tracks["chain/000001/0"]) == contents_of(tracks["chain/000001/1"])
    assert set(contents_of(tracks["chain/000001/0"])).isdisjoint(contents_of(tracks["chain/000002/0"]))
    own = contents_of(tracks["own/000000/0"]) + contents_of(tracks["own/000000/1"])
    assert len(set(own)) == 6


@pytest.mark.parametrize("clip_s", [CLIP_S, 0.6])
def test_workers_change_nothing(bank: StemCache, rows: np.ndarray, clip_s: float) -> None:
    data, steps = items_of(bank, rows, clip_s=clip_s), [(0, 1), (1, 0), (1, 5)]
    alone, shared = (list(load_batches(BlockReader(data), steps, workers)) for workers in (0, 2))
    for one, other in zip(alone, shared, strict=True):
        for name in ("stems", "descriptors", "groups", "contents", "parameters"):
            first, second = getattr(one, name), getattr(other, name)
            assert torch.equal(first.nan_to_num(), second.nan_to_num()), name
    if clip_s < CLIP_S:
        assert torch.equal(alone[0].descriptors, describe(alone[0].stems))


def test_ranks_share_out_a_batch(bank: StemCache, rows: np.ndarray) -> None:
    data = items_of(bank, rows)
    whole = next(load_batches(BlockReader(data), [(0, 1)], 0))
    first, second = (next(load_batches(BlockReader(data), [(0, 1)], 0, items)) for items in (range(2), range(2, 4)))
    assert first.track_ids + second.track_ids == whole.track_ids


def test_songs_behind_the_groups_are_known(bank: StemCache, rows: np.ndarray) -> None:
    found = {int(song, 16) for song in items_of(bank, rows).song_ids}
    assert found == {0, 1} | {100 * block + slot for block in (1, 2, 3) for slot in range(3)}


def test_blocks_that_lack_a_clip_are_left_out(tmp_path: Path, rows: np.ndarray) -> None:
    make_bank(tmp_path / "bank", blocks=3, groups=2, contents=3, clip_s=0.5, own=0)
    cache = StemCache(tmp_path / "bank")
    whole = blocks_of(cache, "train")
    assert [len(block) for block in whole] == [2, 2]
    cache.tracks = [track for track in cache.tracks if track.path != "chain/000001/0"]
    assert [block[0].path for block in blocks_of(cache, "train")] in (["chain/000000/0"], ["chain/000001/1"])


@pytest.mark.parametrize("batch_size", [3, 10])
def test_a_batch_that_does_not_fit_is_refused(bank: StemCache, rows: np.ndarray, batch_size: int) -> None:
    with pytest.raises(MixstyleError) as caught:
        items_of(bank, rows, batch_size)
    assert caught.value.code == "bad-setting"
    assert "train.batch_size" in caught.value.message


def test_a_bank_without_groups_for_training_is_not_told_as_too_small(
    bank: StemCache, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = [track for track in bank.tracks if track.split == "validation"]
    assert held_out
    monkeypatch.setattr(bank, "tracks", held_out)
    with pytest.raises(MixstyleError) as caught:
        items_of(bank, rows)
    assert (caught.value.code, caught.value.remedy[0]) == ("misfit", "separate")
