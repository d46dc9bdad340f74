"""Shards: what goes in comes out, equal content gives equal bytes, and damage is told."""

import io
import json
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import webdataset
from helpers.failure_log import read_failures

from mixstyle.cache.stem_store.failures import Failure, count_by_kind, failures_of, write_failures
from mixstyle.cache.stem_store.shards import (
    ClipRecord,
    TrackRecord,
    decode_clip,
    encode_clip,
    read_shard,
    shard_numbers,
    sidecar_path,
    tar_path,
    write_shard,
)
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.errors import MixstyleError

FRAMES = 4_410
STEP = 1 / 32768
"""A 16-bit step, of full scale."""


def noise(seed: int, level: float = 0.1, frames: int = FRAMES) -> np.ndarray:
    """Stems [4, 2, T], each channel another noise."""
    return (level * np.random.default_rng(seed).standard_normal((4, 2, frames))).astype(np.float32)


def track(index: int, failed_slots: tuple[int, ...] = (), reason: str = "") -> TrackRecord:
    clips = []
    for slot in range(3):
        flac, scale = encode_clip(noise(10 * index + slot, 0.1 * (slot + 1)))
        if reason or slot in failed_slots:
            clips.append(ClipRecord(f"t{index}_{slot}", slot, slot * FRAMES, reason=reason or "silent: very"))
        else:
            clips.append(ClipRecord(f"t{index}_{slot}", slot, slot * FRAMES, scale, flac))
    source = {"source_rate": 48_000, "separator": "abc"}
    return TrackRecord(f"t{index}", f"Künstler/lied {index}.mp3", "train", tuple(clips), reason, source)


def tracks() -> Iterator[TrackRecord]:
    yield track(0)
    yield track(1, reason="not music: text")
    yield track(2, failed_slots=(1,))


@pytest.fixture
def stems_dir(tmp_path: Path) -> Path:
    """A cache of two shards (of 3 and 1 tracks) out of two."""
    settings = {"clips_per_track": 3, "tracks_per_shard": 3, "clip_s": 0.1, "tracks": 4}
    made_with = guard(tmp_path / "settings.json", Provenance("separate", settings), rebuild=False).fingerprint
    write_shard(tmp_path, 0, tracks(), made_with)
    write_shard(tmp_path, 1, [track(3)], made_with)
    return tmp_path


def test_a_clip_comes_back_within_half_a_step() -> None:
    stems = noise(0)
    flac, scale = encode_clip(stems)
    assert scale == 1.0
    # half a step of rounding, and float32's own 2^-25
    np.testing.assert_allclose(decode_clip(flac, scale), stems, atol=0.5001 * STEP, rtol=0)
    np.testing.assert_array_equal(decode_clip(flac, scale, 1000, 50), decode_clip(flac, scale)[..., 1000:1050])
    assert encode_clip(stems)[0] == flac


def test_channels_are_stem_major_and_left_first() -> None:
    stems = np.zeros((4, 2, 100), np.float32)
    for channel in range(8):
        stems[channel // 2, channel % 2] = channel / 16
    audio, rate = soundfile.read(io.BytesIO(encode_clip(stems)[0]))
    assert (rate, audio.shape) == (44_100, (100, 8))
    np.testing.assert_allclose(audio[0], np.arange(8) / 16)


@pytest.mark.parametrize("peak", [1 - 2 * STEP, 1.0, 1.3, 7.77, 1e4])
def test_loud_stems_are_scaled_instead_of_clipped(peak: float) -> None:
    stems = noise(1)
    stems *= peak / np.abs(stems).max()
    flac, scale = encode_clip(stems)
    assert (scale == 1.0) == (peak < 1 - STEP)
    assert json.loads(json.dumps(scale)) == scale
    # scaled up by `scale`, half a step is so much more; a clipped sample would be off by thousands of steps
    np.testing.assert_allclose(decode_clip(flac, scale), stems, atol=0.501 * STEP * scale, rtol=0)
    assert scale <= max(1.0, 1.001 * peak + 1 / 1024)


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[4, 2, T\]"):
        encode_clip(np.zeros((2, 100), np.float32))
    for bad in (np.nan, np.inf):
        stems = noise(0)
        stems[2, 1, 7] = bad
        with pytest.raises(ValueError, match="NaN"):
            encode_clip(stems)
    flac, scale = encode_clip(noise(0))
    with pytest.raises(ValueError) as caught:
        decode_clip(b"no flac at all", 1.0)
    assert isinstance(caught.value.__cause__, soundfile.SoundFileError)
    with pytest.raises(ValueError, match=rf"\b{FRAMES}\b"):
        decode_clip(flac, scale, 0, FRAMES + 1)


def test_equal_tracks_give_equal_bytes(stems_dir: Path, tmp_path: Path) -> None:
    again = write_shard(tmp_path / "again", 0, tracks(), "ignored by the tar")
    assert again.tar.read_bytes() == tar_path(stems_dir, 0).read_bytes()


def test_the_bytes_are_those_of_a_plain_tar(tmp_path: Path) -> None:
    """Earlier shards were written with tarfile: equal content still gives the very same file, so both are read."""
    flac, scale = encode_clip(noise(0))
    clips = tuple(ClipRecord(f"t0_{slot}", slot, slot * FRAMES, scale, flac) for slot in range(12))
    shard = write_shard(tmp_path, 0, [TrackRecord("t0", "a.mp3", "train", clips, "", {}), *tracks()], "abc")
    with tarfile.open(shard.tar) as archive:
        members = [(m.name, archive.extractfile(m)) for m in archive.getmembers()]
        contents = [(name, file.read()) for name, file in members if file is not None]
    assert [name for name, _ in contents[:12]] == [f"t0.c{slot}.flac" for slot in range(12)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as old:
        for name, data in contents:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            old.addfile(info, io.BytesIO(data))
    assert shard.tar.read_bytes() == buffer.getvalue()


def test_members_lie_where_the_sidecar_says(stems_dir: Path) -> None:
    shard = read_shard(stems_dir, 0)
    assert shard is not None
    with tarfile.open(shard.tar) as archive:
        members = archive.getmembers()
    assert {m.name: (m.offset_data, m.size) for m in members} == shard.members
    assert [m.name for m in members] == [
        *(f"t0.c{slot}.flac" for slot in range(3)), "t0.json", "t2.c0.flac", "t2.c2.flac", "t2.json",
    ]  # fmt: skip
    assert {(m.mtime, m.uid, m.gid, m.mode, m.uname) for m in members} == {(0, 0, 0, 0o644, "")}


def test_webdataset_reads_shards(stems_dir: Path) -> None:
    urls = [str(tar_path(stems_dir, k)) for k in (0, 1)]
    dataset: Any = webdataset.WebDataset(urls, shardshuffle=False)  # pyright: ignore[reportAttributeAccessIssue]
    samples = list(dataset.decode())
    assert [sample["__key__"] for sample in samples] == ["t0", "t2", "t3"]
    told = samples[1]["json"]
    assert told["path"] == "Künstler/lied 2.mp3"
    assert told["clip_id"] == ["t2_0", "t2_2"]
    assert told["start_frame"] == [0, 2 * FRAMES]
    assert (told["source_rate"], told["separator"], told["sample_rate"]) == (48_000, "abc", 44_100)
    name = told["file"][1].removeprefix("t2.")
    scale = told["scale"][1]
    # half a step of 16 bits, and 2^-24 of samples below 2 for what is float32
    np.testing.assert_allclose(decode_clip(samples[1][name], scale), noise(22, 0.3), atol=STEP * scale / 2 + 1e-7)


def test_nothing_is_left_of_a_shard_whose_tracks_fail(tmp_path: Path) -> None:
    def broken() -> Iterator[TrackRecord]:
        yield track(0)
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_shard(tmp_path, 0, broken(), "abc")
    assert list(tmp_path.iterdir()) == []


def test_a_shard_without_its_sidecar_or_of_another_length_is_not_done(stems_dir: Path) -> None:
    assert shard_numbers(stems_dir) == [0, 1]
    with tar_path(stems_dir, 0).open("ab") as file:
        file.write(b"\0")
    assert read_shard(stems_dir, 0) is None
    sidecar_path(stems_dir, 1).unlink()
    assert read_shard(stems_dir, 1) is None
    write_json(sidecar_path(stems_dir, 0), {**read_json(sidecar_path(stems_dir, 0)), "version": 9}, checksum=True)
    with pytest.raises(MixstyleError) as caught:
        read_shard(stems_dir, 0)
    assert (caught.value.code, "stems-000000.json" in str(caught.value)) == ("unknown-version", True)


def test_rows_follow_the_plan(stems_dir: Path) -> None:
    cache = StemCache(stems_dir)
    assert (cache.n_tracks, cache.n_rows, cache.rows_per_shard, cache.complete) == (4, 12, 9, True)
    assert [(t.track_id, t.index, t.shard) for t in cache.tracks] == [("t0", 0, 0), ("t2", 2, 0), ("t3", 3, 1)]
    assert [clip.row for t in cache.tracks for clip in t.clips] == [0, 1, 2, 6, 8, 9, 10, 11]
    for t in cache.tracks:
        for clip in t.clips:
            slot = clip.row % 3
            expected = noise(10 * t.index + slot, 0.1 * (slot + 1))
            # half a step of 16 bits, and 2^-24 of samples below 2 for what is float32
            np.testing.assert_allclose(cache.read_clip(clip), expected, atol=STEP * clip.scale / 2 + 1e-7, rtol=0)
            assert clip.start_frame == slot * FRAMES
    assert cache.read_clip(cache.tracks[1].clips[1], 7, 9).shape == (4, 2, 9)
    assert cache.read_metadata(cache.tracks[1])["clip_id"] == ["t2_0", "t2_2"]
    cache.verify()


def test_many_threads_read_at_once(stems_dir: Path) -> None:
    cache = StemCache(stems_dir)
    clips = [clip for t in cache.tracks for clip in t.clips] * 5
    with ThreadPoolExecutor(8) as threads:
        for clip, stems in zip(clips, threads.map(cache.read_clip, clips), strict=True):
            np.testing.assert_array_equal(stems, cache.read_clip(clip))


def test_the_fingerprint_is_of_every_shard(stems_dir: Path) -> None:
    whole = StemCache(stems_dir).fingerprint
    assert StemCache(stems_dir).fingerprint == whole
    made_with = StemCache(stems_dir).shards[0].fingerprint
    write_shard(stems_dir, 1, [track(3, failed_slots=(0,))], made_with)
    assert StemCache(stems_dir).fingerprint != whole
    write_shard(stems_dir, 1, [track(3)], made_with)
    assert StemCache(stems_dir).fingerprint == whole
    sidecar_path(stems_dir, 1).unlink()
    partial = StemCache(stems_dir)
    assert not partial.complete
    assert partial.fingerprint != whole


def test_damage_is_told_with_the_shards_name(stems_dir: Path) -> None:
    tar = tar_path(stems_dir, 1)
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with pytest.raises(MixstyleError) as caught:
        StemCache(stems_dir).verify()
    assert caught.value.code == "damaged-file"
    assert (caught.value.remedy, f"delete {tar.with_suffix('.json')}" in str(caught.value)) == (("separate",), True)
    tar.write_bytes(data[: len(data) // 2])
    with pytest.raises(MixstyleError) as caught:
        StemCache(stems_dir)
    assert (caught.value.code, str(tar) in str(caught.value)) == ("damaged-file", True)


def test_a_cache_of_other_settings_or_none_is_refused(stems_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        StemCache(tmp_path / "nowhere")
    assert (caught.value.code, str(tmp_path / "nowhere") in str(caught.value)) == ("step-missing", True)
    write_shard(stems_dir, 1, [track(3)], "0123456789abcdef")
    with pytest.raises(MixstyleError) as caught:
        StemCache(stems_dir)
    assert (caught.value.code, "stems-000001.tar" in str(caught.value)) == ("stale", True)


def test_a_shard_of_failures_is_a_whole_shard(tmp_path: Path) -> None:
    write_shard(tmp_path, 0, [track(0, reason="empty file: 0 bytes")], "abc")
    shard = read_shard(tmp_path, 0)
    assert shard is not None
    assert shard.members == {}
    with tarfile.open(shard.tar) as archive:
        assert archive.getnames() == []
    assert [clip["reason"] for clip in shard.tracks[0]["clips"]] == ["empty file: 0 bytes"] * 3


def test_the_failure_log_names_tracks_and_clips(stems_dir: Path, tmp_path: Path) -> None:
    failures = failures_of(StemCache(stems_dir).shards)
    assert failures == [
        Failure("t1", "Künstler/lied 1.mp3", "", "separate", "not music: text"),
        Failure("t2", "Künstler/lied 2.mp3", "t2_1", "separate", "silent: very"),
    ]
    assert count_by_kind(failures) == {"not music": 1, "silent": 1}
    odd = [*failures, Failure("t9", 'with "quotes", commas\nand lines.mp3', "", "separate", "x: y")]
    path = tmp_path / "failures.csv"
    write_failures(path, odd)
    assert read_failures(path) == odd
    assert path.read_bytes().startswith(b"track_id,path,clip,stage,reason\r\n")  # RFC 4180
    write_failures(path, [Failure("t9", "latin-1 \udce9.mp3", "", "separate", "x: y")])
    assert read_failures(path)[0].path == "latin-1 \\udce9.mp3"
