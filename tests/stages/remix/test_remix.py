"""The remix stage: what it makes, leaves alone, refuses and tells, and the bank's descriptors."""

import os
import shutil
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.killed import run_until
from helpers.small_cache import make_cache
from helpers.small_separator import hashes, write_separator

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.common.stage_status import size_text
from mixstyle.stages.features.stage import features
from mixstyle.stages.features.status import features_status
from mixstyle.stages.remix import growth
from mixstyle.stages.remix.dry_run import dry_run
from mixstyle.stages.remix.stage import RemixSummary, grid_settings, remix
from mixstyle.stages.remix.status import remix_status
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.settings.remix import RemixSettings
from mixstyle.stages.train.grid import contents_of

BLOCKS, GROUPS, SHARDS = 4, 8, 2


pytestmark = pytest.mark.usefixtures("one_thread")


def profile(folder: Path, origin: Path, **changes: Any) -> Settings:
    """Settings that fill `folder/remix` from the stems in `origin`."""
    chosen = {
        "remix_dir": str(folder / "remix"),
        "features_path": str(folder / "remix.zarr"),
        "blocks": BLOCKS,
        "contents": 3,
        "chains_per_block": 2,
        "blocks_per_shard": 2,
        "clip_s": 0.5,
        "effects": [1, 2],
        "own_share": 0.3,
        "num_overlap": 1,
        "device": "cpu",
        "threads": 1,
        "batch_chunks": 2,
        "workers": 1,
        **changes,
    }
    separate = {
        "stems_dir": str(origin / "stems"),
        "separator_config": str(origin / "separator" / "separator.yaml"),
        "separator_checkpoint": str(origin / "separator" / "separator.safetensors"),
        "clip_s": 1.0,
    }
    described = {"features_path": str(folder / "features.zarr"), "device": "cpu", "workers": 1}
    train = {"clip_duration_s": 0.5}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "profile.yaml"
    path.write_text(yaml.safe_dump({"separate": separate, "remix": chosen, "features": described, "train": train}))
    return load_settings(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remix")
    make_cache(folder / "stems", tracks=7, clips=3, clip_s=1.0, validation=3)
    write_separator(folder / "separator")
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return profile(folder, folder)


@pytest.fixture(scope="module")
def summary(settings: Settings) -> RemixSummary:
    return remix(settings)


def test_it_counts_what_it_made(summary: RemixSummary, settings: Settings) -> None:
    assert (summary.shards, summary.shards_made, summary.groups, summary.clips) == (SHARDS, SHARDS, GROUPS, 24)
    assert (summary.clips_failed, summary.clips_made, summary.shards_elsewhere) == (0, 24, 0)
    bank = StemCache(settings.remix.remix_dir)
    assert summary.disk_bytes == sum(shard.size for shard in bank.shards)
    told = [bank.read_metadata(track) for track in bank.tracks]
    assert sum(record["kind"] == "own" for record in told) == 2  # 0.3 of 4 blocks
    again = remix(settings)
    assert (again.shards_made, again.clips) == (0, 24)


def test_shares_give_the_bytes_of_one_process(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    shared = profile(tmp_path / "shares", folder)
    assert remix(shared, shard_index=1, num_shards=2).shards_elsewhere == 1
    assert remix(shared, shard_index=0, num_shards=2).shards_elsewhere == 0
    assert hashes(tmp_path / "shares" / "remix") == hashes(folder / "remix")


@pytest.mark.slow
def test_devices_give_the_bytes_of_one_process(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    on_two = profile(tmp_path / "devices", folder, devices=["cpu", "cpu"])
    assert remix(on_two).shards_made == SHARDS
    assert hashes(tmp_path / "devices" / "remix") == hashes(folder / "remix")


def test_more_blocks_keep_what_is_there(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    remix(profile(tmp_path, folder, blocks=3))  # the second shard has one block of two
    kept = (tmp_path / "remix" / "stems-000000.tar").stat().st_mtime_ns
    settings = profile(tmp_path, folder)
    told = remix_status(settings, StemCache(folder / "stems"))[1]
    assert (told.state, told.run) == ("partly done", "mixstyle remix")
    assert remix(settings).shards_made == 1
    assert (tmp_path / "remix" / "stems-000000.tar").stat().st_mtime_ns == kept
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")
    with pytest.raises(MixstyleError) as caught:
        remix(profile(tmp_path, folder, blocks=3))
    assert caught.value.code == "stale"


def test_a_growth_that_was_interrupted_is_finished(
    folder: Path, summary: RemixSummary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remix(profile(tmp_path, folder, blocks=2))

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    more = profile(tmp_path, folder)
    with monkeypatch.context() as patch:
        patch.setattr(growth, "restamp_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            remix(more)
    assert remix(profile(tmp_path, folder)).shards_made == 1
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")


@pytest.mark.slow
def test_after_a_kill_it_goes_on_to_the_same_bytes(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    settings = profile(tmp_path, folder)
    run_until(tmp_path / "remix" / "stems-000000.json", "remix", "--config", str(tmp_path / "profile.yaml"))
    left = SHARDS - len(list((tmp_path / "remix").glob("stems-*.json")))
    assert left == SHARDS - 1
    assert remix(settings).shards_made == left
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")


def test_no_blocks_make_no_bank(folder: Path, tmp_path: Path) -> None:
    none = profile(tmp_path, folder, blocks=0)
    assert remix(none) == RemixSummary(0)
    assert not (tmp_path / "remix").exists()
    assert not none.remix.features_path.exists()
    assert dry_run(none).clips == 0
    assert remix_status(none, None)[1].state == "not needed"
    assert features(none).bank is None
    # asked for later, what dvc left empty is filled
    some = profile(tmp_path, folder, blocks=1)
    for empty in (some.remix.remix_dir, some.remix.features_path):
        empty.mkdir(parents=True)
    remix(some)
    described = features(some).bank
    assert described is not None
    assert described.clips == 6


def test_the_bank_has_descriptors_of_its_own(settings: Settings, summary: RemixSummary, folder: Path) -> None:
    described = features(settings).bank
    assert described is not None
    assert (described.clips, described.shards, described.clips_failed) == (24, SHARDS, 0)
    bank, store = StemCache(settings.remix.remix_dir), FeatureStore.open(settings.remix.features_path)
    assert store.shard_sha256 == [shard.sha256 for shard in bank.shards]
    for track in bank.tracks[::3]:
        clip = track.clips[1]
        expected = describe(torch.from_numpy(bank.read_clip(clip))[None])[0].numpy()
        np.testing.assert_array_equal(store.rows([store.row(clip.clip_id)])[0], expected)
    assert set(store.splits) == {"train", "validation"}
    state = features_status(settings, StemCache(folder / "stems"), bank)[1]
    assert (state.state, state.done.count("shards")) == ("done", 2)
    # others were mixed since: the descriptors are refused, and made again when asked
    other = profile(folder / "other", folder, seed=9, features_path=str(settings.remix.features_path))
    remix(other)
    with pytest.raises(MixstyleError) as caught:
        features(other)
    assert (caught.value.code, caught.value.remedy) == ("stale", ("features", "--rebuild"))


def test_what_changed_is_told_and_made_anew(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    shutil.copytree(folder / "remix", tmp_path / "remix")
    for changes, name in (
        ({"mixed_share": 0.5}, "mixed_share"),
        ({"num_overlap": 2}, "num_overlap"),
        ({"contents": 2}, "contents"),
    ):
        changed = profile(tmp_path, folder, **changes)
        with pytest.raises(MixstyleError) as caught:
            remix(changed)
        assert (caught.value.code, caught.value.remedy) == ("stale", ("remix", "--rebuild"))
        assert f"remix.{name}" in caught.value.message
        state = remix_status(changed, StemCache(folder / "stems"))[1]
        assert (state.state, state.run) == ("stale", "mixstyle remix --rebuild")
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")
    assert remix(profile(tmp_path, folder, contents=2), rebuild=True).clips == 16


def test_rebuild_makes_all_of_it_though_nothing_changed(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    shutil.copytree(folder / "remix", tmp_path / "remix")
    same = profile(tmp_path, folder)
    assert remix(same, rebuild=True, shard_index=0, num_shards=2).shards_made == 0
    assert remix(same, rebuild=True).shards_made == summary.shards
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")


def test_other_stems_make_it_stale(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    shutil.copytree(folder / "remix", tmp_path / "remix")
    make_cache(tmp_path / "stems", tracks=7, clips=2, clip_s=1.0, validation=3)
    shutil.copytree(folder / "separator", tmp_path / "separator")
    settings = profile(tmp_path, tmp_path)
    with pytest.raises(MixstyleError) as caught:
        remix(settings)
    assert caught.value.code == "stale"
    (tmp_path / "stems" / "stems-000001.json").unlink()
    with pytest.raises(MixstyleError) as caught:
        remix(settings)
    assert (caught.value.code, caught.value.remedy) == ("step-missing", ("separate",))


def test_a_damaged_shard_is_made_again_as_told(folder: Path, summary: RemixSummary, tmp_path: Path) -> None:
    shutil.copytree(folder / "remix", tmp_path / "remix")
    settings = profile(tmp_path, folder)
    os.truncate(tmp_path / "remix" / "stems-000001.tar", 1000)
    state = remix_status(settings, StemCache(folder / "stems"))[1]
    assert (state.state, state.run) == ("damaged", "mixstyle remix")
    with pytest.raises(MixstyleError) as caught:
        StemCache(tmp_path / "remix")
    assert caught.value.remedy == ("remix",)
    assert remix(settings).shards_made == 1
    assert hashes(tmp_path / "remix") == hashes(folder / "remix")
    (tmp_path / "remix" / "stems-000000.json").unlink()
    assert remix_status(settings, StemCache(folder / "stems"))[1].state == "partly done"


def test_status_tells_what_a_bank_holds_and_what_it_cannot_be_compared_with(
    folder: Path, settings: Settings, summary: RemixSummary, tmp_path: Path
) -> None:
    bank, found = remix_status(settings, StemCache(folder / "stems"))
    assert bank is not None
    assert found.done == f"2 of 2 shards, 8 groups (24 clips), {size_text(summary.disk_bytes)}"
    assert (found.state, found.problems, found.run) == ("done", (), "")
    unread = remix_status(settings, None)[1]  # stems are there, and no cache could be made of them
    without = replace(settings, separate=replace(settings.separate, stems_dir=tmp_path))
    missing = remix_status(without, None)[1]
    assert [(one.state, one.run) for one in (unread, missing)] == [("done", "")] * 2
    assert str(folder / "stems") in unread.problems[0]
    assert str(tmp_path) not in missing.problems[0]
    grown = profile(tmp_path, folder, blocks=6)
    grown = replace(grown, remix=replace(grown.remix, remix_dir=settings.remix.remix_dir))
    more = remix_status(grown, StemCache(folder / "stems"))[1]
    assert (more.state, more.run, more.done) == ("partly done", "mixstyle remix", found.done)
    assert more.problems[-1].endswith(f" {BLOCKS}")


def test_the_plan_tells_clips_disk_and_time(
    settings: Settings, summary: RemixSummary, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs = dry_run(profile(tmp_path, folder))
    assert (needs.groups, needs.clips, needs.clips_separated) == (GROUPS, 24, (18,))
    assert needs.chunks_a_clip == (2,)  # of 22,050 frames, in chunks of 16,384 that do not overlap
    assert needs.expected_s is not None
    assert needs.expected_s >= 18 * 2 * needs.chunk_s[0] > 0
    # noise takes about the full 16 bits a sample: 8 channels x 0.5 s x 44.1 kHz x 2 bytes, at least half of it
    assert 88_200 < needs.disk_bytes / 24 < 352_800
    assert dry_run(settings).disk_left_bytes == 0
    # on a disk that is full it is refused, by the dry run and by the run
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 10**5))
    for refused in (dry_run, remix):
        with pytest.raises(MixstyleError) as caught:
            refused(profile(tmp_path, folder))
        assert caught.value.code == "cannot-write"
    assert not list((tmp_path / "remix").glob("stems-*"))
    assert remix(settings).shards_made == 0, "what is whole needs no room"
    # without stems it still tells how much it is
    monkeypatch.undo()
    missing = replace(settings, separate=replace(settings.separate, stems_dir=tmp_path / "none"))
    needs = dry_run(replace(missing, remix=replace(missing.remix, remix_dir=tmp_path / "empty")))
    assert (needs.clips, needs.clips_separated, needs.own_groups, needs.expected_s) == (24, (18,), 2, None)
    assert needs.disk_bytes == 24 * 0.5 * 280_000


def test_the_plan_counts_every_separator(folder: Path, tmp_path: Path) -> None:
    other = write_separator(tmp_path / "other", seed=1, num_overlap=1)
    needs = dry_run(profile(tmp_path, folder, separators=[list(map(str, other))], num_overlap=None))
    assert needs.clips_separated == (12, 6)  # blocks 0 and 2, and 3; block 1 is of own mixes
    assert len(needs.chunk_s) == len(needs.chunks_a_clip) == 2
    assert needs.chunks_a_clip == (4, 2)  # the first separator separates every second twice
    assert needs.expected_s is not None
    alone = [c * k * s for c, k, s in zip(needs.clips_separated, needs.chunks_a_clip, needs.chunk_s, strict=True)]
    assert needs.expected_s >= sum(alone) > max(alone) > 0
    with pytest.raises(MixstyleError) as caught:
        dry_run(profile(tmp_path, folder, separators=[[str(other[0]), "none.safetensors"]]))
    assert "none.safetensors" in caught.value.message


def test_songs_without_a_chain_are_separated_where_the_stems_were_given(folder: Path, tmp_path: Path) -> None:
    """A user has a mix of them too, and true stems are none that come out of a separator."""
    make_cache(tmp_path / "stems", tracks=7, clips=3, clip_s=1.0, validation=3, separator="stems")
    (tmp_path / "separator").symlink_to(folder / "separator")
    settings = profile(tmp_path, tmp_path)
    assert dry_run(settings).clips_separated == (24,)
    remix(settings)
    origin, bank = StemCache(tmp_path / "stems"), StemCache(tmp_path / "remix")
    clips = {clip.clip_id: clip for track in origin.tracks for clip in track.clips}
    chosen = settings.separate
    separator = load_separator(chosen.separator_config, chosen.separator_checkpoint, num_overlap=1)
    own = [track for track in bank.tracks if track.path.startswith("own/")]
    assert len(own) == 2
    for track in own:
        record = bank.read_metadata(track)
        assert record["separated"] == [True] * 3
        donor, start = record["donors"][0][0], record["start_frames"][0][0]
        mix = origin.read_clip(clips[donor], start, bank.clip_frames).sum(0)
        expected = separator.separate([torch.from_numpy(mix)])[0].numpy()
        # half a 16-bit step, and 2e-5 for float32 sums of a network in batches of other sizes (-94 dBFS)
        atol = track.clips[0].scale / 65_536 + 2e-5
        np.testing.assert_allclose(bank.read_clip(track.clips[0]), expected, atol=atol, rtol=0)
    status = remix_status(settings, origin)[1]
    assert (status.state, status.problems) == ("done", ())


def test_stems_of_a_share_of_blocks_are_processed_and_kept(folder: Path, tmp_path: Path) -> None:
    settings = profile(tmp_path, folder, own_share=0.0, stems_share=0.5, levels_share=0.0)
    needs = dry_run(settings)
    assert (needs.groups, needs.clips_separated, needs.own_groups, needs.stems_groups) == (GROUPS, (12,), 0, 4)
    remix(settings)
    origin, bank = StemCache(folder / "stems"), StemCache(tmp_path / "remix")
    clips = {clip.clip_id: clip for track in origin.tracks for clip in track.clips}
    kept = [track for track in bank.tracks if track.path.startswith("stems/")]
    assert len(kept) == 4
    for track in kept:
        record = bank.read_metadata(track)
        assert (record["kind"], record["separated"]) == ("stems", [False] * 3)
        for clip, donors, starts, gain_db in zip(
            track.clips, record["donors"], record["start_frames"], record["gain_db"], strict=True
        ):
            content = [
                origin.read_clip(clips[donor], start, bank.clip_frames)[stem]
                for stem, (donor, start) in enumerate(zip(donors, starts, strict=True))
            ]
            expected = apply_mix_chain(np.stack(content), MixChain.from_json(record["chain"])) * 10 ** (gain_db / 20)
            # 16 bits of the loudest sample or of full scale: half a step
            step = max(1.0, float(np.abs(expected).max())) / 32_767
            np.testing.assert_allclose(bank.read_clip(clip), expected, atol=0.51 * step, rtol=0)
        assert contents_of(track) == contents_of(next(one for one in kept if one.path[:-1] == track.path[:-1]))


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"clip_s": 2.0}, "remix.clip_s"),
        ({"effects": [3, 1]}, "remix.effects"),
        ({"separators": [["a.yaml"]]}, "remix.separators"),
        ({"devices": ["cpu", "cuda:0"]}, "remix.devices"),
    ],
)
def test_settings_that_cannot_be_are_named(folder: Path, tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        profile(tmp_path, folder, **changes)
    assert caught.value.code == "bad-setting"
    assert name in caught.value.message


def test_more_effects_than_there_are_are_named() -> None:
    with pytest.raises(MixstyleError) as caught:
        grid_settings(RemixSettings(effects=(1, len(EFFECTS) + 1)))
    assert (caught.value.code, "remix.effects" in caught.value.message) == ("bad-setting", True)
    assert grid_settings(RemixSettings(effects=(1, len(EFFECTS)))).effects == (1, len(EFFECTS))
