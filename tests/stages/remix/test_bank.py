"""Banks: clips that are mixed, summed and separated again are those that one does by hand, whoever made them."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_cache import make_cache, stems_of
from helpers.small_separator import CHUNK, hashes, write_separator

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_chain import MixChain, apply_mix_chain
from mixstyle.pipeline.mixing.mix_grid import GridSettings
from mixstyle.pipeline.separation.kernels.lstm import AVX512
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.common.notes import begin_notes
from mixstyle.stages.remix import bank as bank_module
from mixstyle.stages.remix.bank import fill_bank
from mixstyle.stages.remix.grid import GridGroups
from mixstyle.stages.remix.mixes import AudioDonor, CachedDonor, Group, Mix
from mixstyle.stages.separate.provenance import Streams
from mixstyle.stages.settings.separate import SeparateSettings

CLIP_S = 0.5
FRAMES = round(CLIP_S * SAMPLE_RATE)
FILES = {"config": "yaml", "checkpoint": "safetensors"}
GRID = GridSettings(
    blocks=6,
    contents=3,
    chains_per_block=2,
    clip_frames=FRAMES,
    effects=(1, 4),
    mixed_share=0.5,
    levels_share=0.3,
    own_share=0.34,
)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cached stems of nine songs, and two separators."""
    folder = tmp_path_factory.mktemp("bank")
    make_cache(folder / "stems", tracks=9, clips=3, clip_s=1.0, validation=3)
    write_separator(folder / "separator", num_overlap=1)
    write_separator(folder / "other", seed=1, num_overlap=1)
    return folder


def chosen_of(folder: Path, **changes: Any) -> SeparateSettings:
    named = {f"separator_{name}": folder / "separator" / f"separator.{ending}" for name, ending in FILES.items()}
    return SeparateSettings(**{**named, "device": "cpu", "threads": 1, "batch_chunks": 4, "workers": 1, **changes})


def filled(folder: Path, bank: Path, **changes: Any) -> StemCache:
    """The grid's bank."""
    cache = StemCache(folder / "stems")
    groups = GridGroups(GRID, cache)
    return fill_bank(bank, groups, cache, chosen_of(folder, **changes), clip_s=CLIP_S, groups_per_shard=4)


@pytest.fixture(scope="module")
def bank(folder: Path) -> StemCache:
    return filled(folder, folder / "bank")


def donated(folder: Path, told: dict[str, Any], slot: int) -> np.ndarray:
    """A content by what the record says of it."""
    cache = StemCache(folder / "stems")
    clips = {clip.clip_id: clip for track in cache.tracks for clip in track.clips}
    places = zip(told["donors"][slot], told["start_frames"][slot], strict=True)
    return np.stack([cache.read_clip(clips[name], start, FRAMES)[i] for i, (name, start) in enumerate(places)])


def test_a_bank_opens_as_cached_stems(bank: StemCache) -> None:
    assert bank.complete
    bank.verify()
    assert (bank.n_tracks, bank.clips_per_track, bank.clip_frames, bank.n_shards) == (12, 3, FRAMES, 3)
    kinds = [track.path.partition("/")[0] for track in bank.tracks]
    assert kinds.count("own") == 4
    assert [track.path.partition("/")[2] for track in bank.tracks] == [f"{i // 2:06d}/{i % 2}" for i in range(12)]
    assert all(len(track.clips) == 3 for track in bank.tracks)


def test_a_clip_is_the_separation_of_its_summed_stems(folder: Path, bank: StemCache) -> None:
    chosen = chosen_of(folder)
    separator = load_separator(chosen.separator_config, chosen.separator_checkpoint)
    chains = 0
    for track in bank.tracks:
        told = bank.read_metadata(track)
        if told["kind"] == "own":
            continue
        chains += 1
        assert told["separator"] == separator.fingerprint
        chain = MixChain.from_json(told["chain"])
        slot = chains % 3
        stems = apply_mix_chain(donated(folder, told, slot), chain)
        mix = stems.sum(0) * np.float32(10 ** (told["gain_db"][slot] / 20))
        expected = separator.separate([torch.from_numpy(mix)])[0].numpy()
        clip = track.clips[slot]
        # half a 16-bit step; sums and batches in another order move a mix at up to -8 LUFS by 1e-5
        np.testing.assert_allclose(bank.read_clip(clip), expected, atol=clip.scale / 65_536 + 2e-5, rtol=0)
    assert chains == 8


def test_own_groups_are_the_cached_stems(folder: Path, bank: StemCache) -> None:
    for track in [track for track in bank.tracks if track.path.startswith("own")]:
        told = bank.read_metadata(track)
        assert told["gain_db"] == [0.0] * 3
        assert len({name.partition("_")[0] for names in told["donors"] for name in names}) == 1
        for slot, clip in enumerate(track.clips):
            expected = donated(folder, told, slot)
            # both are multiples of 16-bit steps: where the scale is 1, the same ones
            atol = 0 if clip.scale == 1 else clip.scale / 65_536
            np.testing.assert_allclose(bank.read_clip(clip), expected, atol=atol, rtol=0)


def test_contents_are_equal_over_a_block_and_nowhere_else(bank: StemCache) -> None:
    donors_of: dict[int, str] = {}
    blocks: dict[str, list[list[int]]] = {}
    for track in bank.tracks:
        told = bank.read_metadata(track)
        blocks.setdefault(f"{told['kind']} {told['block']}", []).append(told["content"])
        for content, donors, starts in zip(told["content"], told["donors"], told["start_frames"], strict=True):
            made_of = json.dumps([donors, starts])
            assert donors_of.setdefault(content, made_of) == made_of
    assert len(set(donors_of.values())) == len(donors_of)
    for block, contents in blocks.items():
        assert (contents[0] == contents[1]) == block.startswith("chain")
        number = block.split()[1].zfill(6)
        assert len({track.shard for track in bank.tracks if track.path.split("/")[1] == number}) == 1


def test_no_donor_is_of_another_split(folder: Path, bank: StemCache) -> None:
    split_of = {track.track_id: track.split for track in StemCache(folder / "stems").tracks}
    seen = set()
    for track in bank.tracks:
        names = {name for names in bank.read_metadata(track)["donors"] for name in names}
        assert {split_of[name.partition("_")[0]] for name in names} == {track.split}
        seen.add(track.split)
    assert seen == {"train", "validation"}


def test_bytes_hang_on_no_number_of_workers(folder: Path, bank: StemCache, tmp_path: Path) -> None:
    filled(folder, tmp_path / "bank", workers=3, streams=1)
    assert hashes(tmp_path / "bank") == hashes(folder / "bank")


def test_a_whole_bank_is_left_alone_and_another_is_refused(folder: Path, bank: StemCache, tmp_path: Path) -> None:
    shutil.copytree(folder / "bank", tmp_path / "bank")
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "bank").iterdir() if path.suffix != ".csv"}
    assert filled(folder, tmp_path / "bank").fingerprint == bank.fingerprint
    assert {path: path.stat().st_mtime_ns for path in times} == times
    for changes in ({"num_overlap": 2}, {"separator_checkpoint": folder / "other" / "separator.safetensors"}):
        with pytest.raises(MixstyleError) as caught:
            filled(folder, tmp_path / "bank", **changes)
        assert caught.value.code == "stale"
    cache = StemCache(folder / "stems")
    groups = GridGroups(replace(GRID, seed=5), cache)
    with pytest.raises(MixstyleError) as caught:
        fill_bank(tmp_path / "bank", groups, cache, chosen_of(folder), clip_s=CLIP_S, groups_per_shard=4)
    assert caught.value.code == "stale"
    assert hashes(tmp_path / "bank") == hashes(folder / "bank")
    fill_bank(tmp_path / "bank", groups, cache, chosen_of(folder), clip_s=CLIP_S, groups_per_shard=4, rebuild=True)
    assert hashes(tmp_path / "bank") != hashes(folder / "bank")


def test_blocks_take_turns_at_several_separators(folder: Path, bank: StemCache, tmp_path: Path) -> None:
    cache, chosen = StemCache(folder / "stems"), chosen_of(folder)
    other = (folder / "other" / "separator.yaml", folder / "other" / "separator.safetensors")
    groups = GridGroups(GRID, cache, separators=2)
    both = fill_bank(tmp_path / "bank", groups, cache, chosen, clip_s=CLIP_S, groups_per_shard=4, separators=[other])
    fingerprints = [load_separator(chosen.separator_config, chosen.separator_checkpoint).fingerprint]
    fingerprints.append(load_separator(*other).fingerprint)
    for track, same in zip(both.tracks, bank.tracks, strict=True):
        told, place = both.read_metadata(track), int(track.path.split("/")[1]) % 2
        assert (told["separators"], told["separator"]) == (place, fingerprints[place])
        for clip, one in zip(track.clips, same.clips, strict=True):
            # the same batches or others: within float32 sums where the separator is the same
            apart = np.abs(both.read_clip(clip) - bank.read_clip(one)).max()
            if place == 0 or told["kind"] == "own":
                assert apart <= clip.scale / 32_768 + 2e-5
            else:
                assert apart > 1e-3


@pytest.mark.parametrize(("first", "asked"), [(AVX512.name, [AVX512.name]), ("", [])])
def test_further_separators_take_the_kernel_of_the_first(
    folder: Path, monkeypatch: pytest.MonkeyPatch, first: str, asked: list[str]
) -> None:
    def streams(_: SeparateSettings, separator: Separator, *__: object, **___: object) -> Streams:
        separator.lstm_kernel = first
        return Streams(1, 1, 1, first)

    names: list[str] = []
    monkeypatch.setattr(bank_module, "choose_streams", streams)
    monkeypatch.setattr(bank_module, "lstm_kernel", names.append)
    other = (folder / "other" / "separator.yaml", folder / "other" / "separator.safetensors")
    bank_module.open_separation(chosen_of(folder), [other])
    assert names == asked


def test_audio_of_ones_own_and_stems_that_are_not_separated(folder: Path, tmp_path: Path) -> None:
    cache = StemCache(folder / "stems")
    chain = draw_chain(np.random.default_rng(0), 2)
    audio = stems_of(77, 1.0)
    donor, cached = AudioDonor("noise 77", partial(stems_of, 77, 1.0), 100), CachedDonor(cache.tracks[0].clips[1], 50)
    silent = AudioDonor("silence", partial(np.zeros, (4, 2, FRAMES), np.float32))
    mixes = (
        Mix((donor,) * 4, chain, -3.0, separated=False, content=0),
        Mix((donor, donor, cached, cached), content=1),
        Mix((silent,) * 4, chain, content=2),
    )
    groups = [Group("part", 0, 0, "test", mixes), Group("part", 0, 1, "test", mixes[2:])]
    chosen = chosen_of(folder)
    bank = fill_bank(tmp_path / "bank", groups, cache, chosen, clip_s=CLIP_S, groups_per_shard=2, stage="evaluate")
    (track,) = bank.tracks
    assert [clip.clip_id[-2:] for clip in track.clips] == ["_0", "_1"]
    expected = apply_mix_chain(audio[..., 100 : 100 + FRAMES].copy(), chain) * np.float32(10 ** (-3 / 20))
    first = track.clips[0]
    # half a step of 16 bits, and a gain on float32 samples below 1: 2^-24 each
    np.testing.assert_allclose(bank.read_clip(first), expected, atol=first.scale / 65_536 + 2e-7, rtol=0)
    content = np.concatenate([audio[:2, :, 100 : 100 + FRAMES], cache.read_clip(cached.clip, 50, FRAMES)[2:]])
    separator = load_separator(chosen.separator_config, chosen.separator_checkpoint)
    separated = separator.separate([torch.from_numpy(content.sum(0))])[0].numpy()
    second = track.clips[1]
    # half a step of 16 bits, and 2e-5 for float32 sums of a network in batches of other sizes (-94 dBFS)
    np.testing.assert_allclose(bank.read_clip(second), separated, atol=second.scale / 65_536 + 2e-5, rtol=0)
    told = bank.read_metadata(track)
    assert told["chain"] is None
    assert [entry["mix_lufs"] for entry in told["chains"]] == [-14.0, None, -14.0]
    reasons = [clip["reason"] for shard in bank.shards for track in shard.tracks for clip in track["clips"]]
    assert [reason.partition(":")[0] for reason in reasons] == ["", "", "silent", "silent"]
    with pytest.raises(ValueError, match=r"\b4\b.*\b3\b"):
        Mix((donor,) * 3)


def test_stems_too_few_for_the_grid_are_told(folder: Path) -> None:
    cache = StemCache(folder / "stems")
    with pytest.raises(MixstyleError) as caught:
        GridGroups(replace(GRID, contents=7), cache)
    assert caught.value.code == "misfit"


def test_a_bank_without_groups_for_training_is_told_before_it_is_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = StemCache(folder / "stems")
    monkeypatch.setattr(cache, "tracks", [replace(track, split="validation") for track in cache.tracks])
    begin_notes()
    assert GridGroups(GRID, cache).splits == ("validation",)
    assert capsys.readouterr().err.count("separate.validation_fraction") == 1


def test_a_chunk_a_clip(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With num_overlap 1, a clip of a chunk's length costs one chunk; own mixes cost none."""
    from mixstyle.pipeline.separation.separator import Separator

    chunks: list[int] = []
    whole = Separator.run_network

    def counted(self: Separator, batch: torch.Tensor) -> torch.Tensor:
        chunks.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(Separator, "run_network", counted)
    config, _ = write_separator(tmp_path / "separator")
    config.write_text(config.read_text().replace(f"chunk_size: {CHUNK}", f"chunk_size: {FRAMES}"))
    filled(folder, tmp_path / "bank", num_overlap=1, separator_config=config)
    # 6, 12 and 6 clips of chains in the three shards; a batch holds chunks of one shard
    assert sorted(chunks) == [2, 2, 4, 4, 4, 4, 4]
