"""A folder as they are found: every broken file ends in failures.csv with its reason, and the run goes on."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.failure_log import read_failures
from helpers.odd_audio import with_last_granule
from helpers.small_separator import CLIP, CLIP_S, RATE, profile, song, write_separator

from mixstyle.cache.stem_store.shards import read_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.separate.stage import SeparateSummary, dry_run, separate
from mixstyle.stages.settings.profile import Settings

REASONS = {
    "empty.mp3": "empty file: 0 bytes",
    "text.mp3": "not music: in no format that libsndfile reads",
    "half.mp3": "cut short: it ends 3.05 s before the 6.0 s that its header says",
    "half.flac": "damaged or cut short: decoding fails",
    "short.wav": "too short: 0.80 s long, 1 s are needed",
    "silence.flac": "silent: the mix is below -60 LUFS in all of its clips",
    "faint.flac": "silent: the mix is below -60 LUFS in all of its clips",
    "blip.flac": "silent: the mix is below -60 LUFS in all but one of its clips",
    "gone.mp3": "broken link: what it points to is gone",
    "pipe.wav": "not a file: a folder, a pipe or a device",
    "album.m4a": "not music: in no format that libsndfile reads",
    "nan.wav": "not finite: it holds NaN or infinite samples",
}
"""Files that fail, and how their reason begins."""
GOOD = ["good.flac", "mono.ogg", "old/radio 11k.wav", "Ünïcode – 音楽 (live).flac", "pause.flac", "48k.mp3"]
"""Files that do not."""
SHORTER = {"broken off.flac": 2, "broken off.mp3": 2, "nearly whole.ogg": 3}
"""Files that hold less than their headers say, and the clips that are left of three."""


def cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    music = tmp_path_factory.mktemp("hostile") / "music"
    (music / "old").mkdir(parents=True)
    soundfile.write(music / "good.flac", song(0), RATE)
    soundfile.write(music / "mono.ogg", song(1, channels=1), RATE)
    soundfile.write(music / "old" / "radio 11k.wav", song(2, rate=11_025), 11_025)
    soundfile.write(music / "Ünïcode – 音楽 (live).flac", song(3), RATE)
    soundfile.write(music / "48k.mp3", song(4, rate=48_000), 48_000)
    (music / "empty.mp3").touch()
    (music / "text.mp3").write_text("these are the lyrics only\n" * 500)
    (music / "album.m4a").write_bytes(b"\0\0\0\x20ftypM4A \0\0\0\0" + b"aac" * 1_000)
    for name in ("half.mp3", "half.flac"):
        soundfile.write(music / name, song(5, seconds=6.0), RATE)
        cut_in_half(music / name)
    soundfile.write(music / "short.wav", song(6, seconds=0.8), RATE)
    soundfile.write(music / "silence.flac", np.zeros((3 * RATE, 2)), RATE)
    soundfile.write(music / "faint.flac", 1e-3 * song(7), RATE)  # 17 + 60 dB below full scale
    blip = np.zeros((3 * RATE, 2), np.float32)
    blip[:CLIP] = song(8)[:CLIP]
    soundfile.write(music / "blip.flac", blip, RATE)
    pause = song(9)
    pause[: round(0.37 * len(pause))] = 0  # a silent first clip: the first third of the middle 80%
    soundfile.write(music / "pause.flac", pause, RATE)
    broken = song(10)
    broken[RATE // 10 :: RATE // 10] = np.nan  # clips come from the middle of a track
    soundfile.write(music / "nan.wav", broken, RATE, subtype="FLOAT")
    for name in ("broken off.flac", "broken off.mp3"):
        # the clips lie in thirds of the middle 80%: the last one begins 4.0 s into the song or later
        soundfile.write(music / name, song(11, seconds=6.0), RATE)
        data = (music / name).read_bytes()
        (music / name).write_bytes(data[: len(data) * 64 // 100])
    soundfile.write(music / "nearly whole.ogg", song(12), RATE)
    (music / "nearly whole.ogg").write_bytes(with_last_granule((music / "nearly whole.ogg").read_bytes(), 5_806))
    (music / "gone.mp3").symlink_to("nowhere.mp3")
    os.mkfifo(music / "pipe.wav")
    (music / "loop").symlink_to(music)
    (music / "old" / "up").symlink_to("../..")
    (music / ".hidden.mp3").write_text("not to be seen")
    return music


@pytest.fixture(scope="module")
def settings(music: Path) -> Settings:
    write_separator(music.parent / "separator", num_overlap=1)
    return profile(music.parent, music, tracks_per_shard=5, measure_songs=True)


@pytest.fixture(scope="module")
def summary(settings: Settings) -> SeparateSummary:
    return separate(settings)


def test_every_reason_is_in_the_failure_log(summary: SeparateSummary, settings: Settings) -> None:
    failures = read_failures(settings.separate.stems_dir / "failures.csv")
    tracks = {failure.path: failure.reason for failure in failures if not failure.clip}
    assert tracks.keys() == REASONS.keys()
    for path, reason in REASONS.items():
        assert tracks[path].startswith(reason), path
    assert {failure.stage for failure in failures} == {"separate"}


def test_the_summary_counts_by_reason(summary: SeparateSummary) -> None:
    assert (summary.tracks_planned, summary.tracks_done) == (
        len(REASONS) + len(GOOD) + len(SHORTER),
        len(GOOD) + len(SHORTER),
    )
    assert summary.tracks_failed == len(REASONS)
    assert summary.failures_by_reason == {
        "silent": 3, "not music": 2, "empty file": 1, "cut short": 1, "damaged or cut short": 1, "too short": 1,
        "broken link": 1, "not a file": 1, "not finite": 1,
    }  # fmt: skip


def test_the_other_tracks_are_all_there(summary: SeparateSummary, settings: Settings) -> None:
    cache = StemCache(settings.separate.stems_dir)
    assert cache.complete
    cache.verify()
    assert sorted(track.path for track in cache.tracks) == sorted([*GOOD, *SHORTER])
    rates = {track.path: cache.read_metadata(track)["source_rate"] for track in cache.tracks}
    assert (rates["old/radio 11k.wav"], rates["48k.mp3"], rates["good.flac"]) == (11_025, 48_000, 44_100)
    for track in cache.tracks:
        for clip in track.clips:
            assert cache.read_clip(clip).shape == (4, 2, CLIP)


def test_a_mono_track_is_separated_as_two_equal_channels(
    summary: SeparateSummary, settings: Settings, music: Path
) -> None:
    cache = StemCache(settings.separate.stems_dir)
    track = next(track for track in cache.tracks if track.path == "mono.ogg")
    audio, _ = soundfile.read(music / "mono.ogg", dtype="float32")
    separator = load_separator(settings.separate.separator_config, settings.separate.separator_checkpoint)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = separator.separate([torch.from_numpy(np.stack([audio, audio]))])[0].numpy()
    torch.set_num_threads(before)
    clip = track.clips[1]
    expected = whole[..., clip.start_frame : clip.start_frame + CLIP]
    # half a step of 16 bits, and -100 dBFS for float32 sums of a network in batches of other sizes
    np.testing.assert_allclose(cache.read_clip(clip), expected, atol=clip.scale / 65_536 + 1e-5, rtol=0)


def test_what_a_file_lacks_costs_the_clips_that_touch_it_and_is_noted(
    summary: SeparateSummary, settings: Settings
) -> None:
    cache = StemCache(settings.separate.stems_dir)
    failures = read_failures(settings.separate.stems_dir / "failures.csv")
    assert summary.tracks_noted == len(SHORTER)
    for track in cache.tracks:
        metadata = cache.read_metadata(track)
        lost = [failure.reason.partition(":")[0] for failure in failures if failure.path == track.path and failure.clip]
        if track.path in SHORTER:
            assert len(track.clips) == SHORTER[track.path], track.path
            assert set(lost) <= {"cut short", "damaged or cut short"}
            assert len(lost) == 3 - len(track.clips)
            assert metadata["note"].startswith(("cut short: ", "damaged or cut short: "))
            assert np.isfinite(metadata["loudness_lufs"])
        else:
            assert "note" not in metadata, track.path


def test_a_clip_that_fails_keeps_its_place(summary: SeparateSummary, settings: Settings) -> None:
    cache = StemCache(settings.separate.stems_dir)
    track = next(track for track in cache.tracks if track.path == "pause.flac")
    assert [clip.row for clip in track.clips] == [track.index * 3 + 1, track.index * 3 + 2]
    failures = read_failures(settings.separate.stems_dir / "failures.csv")
    clips = [failure for failure in failures if failure.clip and failure.path not in SHORTER]
    assert [(f.path, f.clip, f.reason) for f in clips] == [
        ("pause.flac", f"{track.track_id}_0", "silent: the mix is below -60 LUFS")
    ]
    assert summary.clips_failed == 1 + sum(3 - left for left in SHORTER.values())
    shard = read_shard(settings.separate.stems_dir, track.shard)
    assert shard is not None
    entry = next(entry for entry in shard.tracks if entry["track_id"] == track.track_id)
    assert [clip["status"] for clip in entry["clips"]] == ["failed", "ok", "ok"]


def test_a_track_with_room_for_fewer_clips_says_so(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "a.wav", song(0, seconds=2.5 * CLIP_S), RATE)
    separate(profile(tmp_path, tmp_path / "music"))
    failures = read_failures(tmp_path / "stems" / "failures.csv")
    assert [failure.reason for failure in failures] == ["no room: the track holds 2 clips"]
    assert len(StemCache(tmp_path / "stems").tracks[0].clips) == 2


def test_a_second_run_finds_nothing_to_do(summary: SeparateSummary, settings: Settings) -> None:
    again = separate(settings)
    assert again.shards_made == 0
    assert again.failures_by_reason == summary.failures_by_reason


def test_the_plan_counts_what_headers_tell(settings: Settings) -> None:
    told = dry_run(settings)
    assert told.tracks == len(REASONS) + len(GOOD) + len(SHORTER)
    # cut, silent and broken samples show only when they are read
    assert told.unusable == {"not music": 2, "empty file": 1, "too short": 1, "broken link": 1, "not a file": 1}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    for name in ("a.wav", "locked.wav"):
        soundfile.write(tmp_path / "music" / name, song(0), RATE)
    (tmp_path / "music" / "locked.wav").chmod(0)
    separate(profile(tmp_path, tmp_path / "music"))
    failures = read_failures(tmp_path / "stems" / "failures.csv")
    assert [(f.path, f.reason) for f in failures] == [("locked.wav", "permission denied: this user may not read it")]
