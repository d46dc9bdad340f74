"""Spectrograms that are kept: what is read back, what is made again, and what is refused."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.small_bank import describe_bank, make_bank

from mixstyle.cache.mel_store import MelStore
from mixstyle.cache.models.checkpoints import mel_settings
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.encoder.levels import gains_db, levelled, levelled_descriptors
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.stages.settings.profile import load_settings
from mixstyle.stages.settings.train import TrainSettings
from mixstyle.stages.train import mels
from mixstyle.stages.train.data import Purpose, load_batches
from mixstyle.stages.train.grid import BankItems, BlockReader
from mixstyle.stages.train.mels import kept_mels

MEL = StemMel(hop_length=512, n_mels=64)


def options_of(folder: Path, **changes: object) -> TrainSettings:
    return load_settings("demo", values={"train.mels_dir": str(folder / "mels"), **changes}).train


@pytest.fixture
def bank(tmp_path: Path) -> StemCache:
    make_bank(tmp_path / "bank", blocks=3, groups=2, contents=2, clip_s=0.5, own=1)
    return StemCache(tmp_path / "bank")


@pytest.mark.parametrize("lufs", [None, -14.0])
def test_what_is_read_is_the_mel_of_the_levelled_clips(tmp_path: Path, bank: StemCache, lufs: float | None) -> None:
    store = describe_bank(bank, tmp_path / "features.zarr")
    options = options_of(tmp_path, **{"train.input_lufs": lufs})
    kept = kept_mels(options, bank, store, MEL, fill=True)
    values = store.values()
    data = BankItems(
        bank,
        "train",
        values,
        seed=0,
        batch_size=4,
        clip_frames=bank.clip_frames,
        describe_here=False,
        input_lufs=lufs,
        mels=kept,
    )
    batch = next(load_batches(BlockReader(data), [(0, 0)], 2))  # read in forked processes
    assert batch.mels is not None
    by_id = {track.track_id: track for track in bank.tracks}
    for slot in range(2):
        for place, track_id in enumerate(batch.track_ids):
            clip, row = by_id[track_id].clips[slot], slot * 4 + place
            stems, descriptors = torch.from_numpy(bank.read_clip(clip))[None], torch.from_numpy(values[[clip.row]])
            if lufs is not None:
                gains = gains_db(descriptors, lufs)
                stems, descriptors = levelled(stems, gains), levelled_descriptors(descriptors, gains)
            # float16 has 11 bits: values from 2 to 4 lie 2^-9 apart, and are off by half of it, 9.8e-4
            wanted = MEL(stems)[0]
            assert wanted.abs().max() < 4
            torch.testing.assert_close(batch.mels[row].float(), wanted, atol=2**-10 + 1e-5, rtol=0)
            assert torch.equal(batch.descriptors[row], descriptors[0])


def test_another_version_of_the_code_makes_them_again(
    tmp_path: Path, bank: StemCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, options = describe_bank(bank, tmp_path / "features.zarr"), options_of(tmp_path)
    first = kept_mels(options, bank, store, MEL, fill=True)
    assert first.done.all()
    # the name that folders of version 1 have, by what they follow from
    made_with = {"bank": bank.fingerprint, "mel": mel_settings(MEL), "input_lufs": options.input_lufs}
    assert first.path.parent.name == fingerprint(made_with)
    monkeypatch.setattr(mels, "SPECTROGRAMS_VERSION", 2)
    other = kept_mels(options, bank, store, MEL, fill=False)
    assert other.path != first.path
    assert not other.done.any()
    assert first.path.is_dir(), "what an older mixstyle reads stays"


@pytest.mark.parametrize("purpose", ["train", "validation"])
def test_a_crop_takes_some_of_the_frames(tmp_path: Path, bank: StemCache, purpose: Purpose) -> None:
    store = describe_bank(bank, tmp_path / "features.zarr")
    kept = kept_mels(options_of(tmp_path), bank, store, MEL, fill=True)
    frames = round(0.35 * SAMPLE_RATE)
    data = BankItems(
        bank,
        "train",
        store.values(),
        seed=0,
        batch_size=4,
        clip_frames=frames,
        describe_here=False,
        mels=kept,
        purpose=purpose,
    )
    whole = MEL.frames(bank.clip_frames)
    # the crop's share of the steps between a clip's frames, rounded up: 0.7 of 43 steps are 31 steps of 32 frames
    wanted = 1 + math.ceil((whole - 1) * frames / bank.clip_frames)
    assert wanted - MEL.frames(frames) in (0, 1)
    starts = set()
    for batch in load_batches(BlockReader(data), [(0, 0), (1, 0)], 0):
        assert batch.mels is not None
        by_id = {track.track_id: track for track in bank.tracks}
        for row, mel in enumerate(batch.mels):
            slot, place = divmod(row, len(batch.track_ids))
            clip = by_id[batch.track_ids[place]].clips[slot]
            stored = torch.from_numpy(kept.read([clip.row]))[0]
            if purpose == "validation":
                assert torch.equal(mel, stored)
                continue
            assert mel.shape[-1] == wanted
            (start,) = [
                s for s in range(whole - mel.shape[-1] + 1) if torch.equal(stored[..., s : s + mel.shape[-1]], mel)
            ]
            starts.add(start)
            assert torch.equal(batch.descriptors[row], torch.from_numpy(store.values()[clip.row]))
    assert purpose == "validation" or len(starts) > 3


def test_only_what_is_missing_is_made(tmp_path: Path, bank: StemCache) -> None:
    store, options = describe_bank(bank, tmp_path / "features.zarr"), options_of(tmp_path)
    kept = kept_mels(options, bank, store, MEL, fill=True)
    chunks = {p: p.stat().st_mtime_ns for p in sorted((kept.path / "mels").rglob("c/*/0/0/0"))}
    assert len(chunks) == len(bank.tracks)
    kept._done[1] = False  # as a killed run leaves it
    again = kept_mels(options, bank, store, MEL, fill=True)
    assert again.done.all()
    changed = {p for p, when in chunks.items() if p.stat().st_mtime_ns != when}
    assert {int(p.relative_to(kept.path).parts[2]) for p in changed} == {2, 3}  # the groups of shard 1
    other = kept_mels(options_of(tmp_path, **{"train.input_lufs": -20.0}), bank, store, MEL, fill=False)
    assert other.path != kept.path
    assert not other.done.any()


def test_a_damaged_chunk_is_noticed(tmp_path: Path, bank: StemCache) -> None:
    kept = kept_mels(options_of(tmp_path), bank, describe_bank(bank, tmp_path / "features.zarr"), MEL, fill=True)
    chunk = next((kept.path / "mels" / "c").rglob("0/0/0/0"))
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 1
    chunk.write_bytes(bytes(data))
    with pytest.raises(MixstyleError) as caught:
        kept.read([0, 1])
    assert caught.value.code == "damaged-file"
    assert str(kept.path) in caught.value.message


def test_a_store_of_other_things_is_made_anew(tmp_path: Path) -> None:
    sizes = {"rows": 4, "group_rows": 2, "shard_rows": 4, "mels": 3, "frames": 5}
    first = MelStore.open_or_create(tmp_path / "m", {"bank": "a"}, **sizes)
    first.write_group(0, np.ones((2, 8, 3, 5), np.float16))
    first.finish_shard(0)
    assert MelStore.open_or_create(tmp_path / "m", {"bank": "a"}, **sizes).done.tolist() == [True]
    assert first.read([0, 1]).sum() == 2 * 8 * 3 * 5
    assert MelStore.open_or_create(tmp_path / "m", {"bank": "b"}, **sizes).done.tolist() == [False]
