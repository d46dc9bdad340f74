"""The separation stage: what is cached is the separation, and nothing but the settings decides its bytes."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from helpers.failure_log import read_failures
from helpers.killed import run_until
from helpers.numbers import numbers
from helpers.small_separator import CLIP, CLIP_S, RATE, hashes, profile, song, write_separator, write_songs

from mixstyle.cache.music.clip_positions import clip_starts
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.separator import Separator, load_separator
from mixstyle.stages.separate import dry_run as dry_run_module
from mixstyle.stages.separate.stage import SeparateSummary, dry_run, make_shard, open_run, separate
from mixstyle.stages.settings.profile import Settings

SONGS = 5


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("separate")
    write_songs(folder / "music", SONGS)
    return folder


@pytest.fixture(scope="module")
def settings(folder: Path) -> Settings:
    return profile(folder, folder / "music")


@pytest.fixture(scope="module")
def run_and_chunks(settings: Settings) -> tuple[SeparateSummary, int]:
    """A run, and how many chunks went through the network."""
    chunks: list[int] = []
    whole = Separator.run_network

    def counted(self: Separator, batch: torch.Tensor) -> torch.Tensor:
        chunks.append(len(batch))
        return whole(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Separator, "run_network", counted)
        return separate(settings), sum(chunks)


@pytest.fixture(scope="module")
def summary(run_and_chunks: tuple[SeparateSummary, int]) -> SeparateSummary:
    return run_and_chunks[0]


@pytest.fixture(scope="module")
def separator(settings: Settings) -> Separator:
    return load_separator(settings.separate.separator_config, settings.separate.separator_checkpoint)


@pytest.fixture
def copy(folder: Path, summary: SeparateSummary, tmp_path: Path) -> Settings:
    """A finished run of its own, to change and damage."""
    shutil.copytree(folder / "separator", tmp_path / "separator")
    shutil.copytree(folder / "stems", tmp_path / "stems")
    shutil.copytree(folder / "music", tmp_path / "music")
    return profile(tmp_path, folder / "music")


def test_the_summary_counts_everything(summary: SeparateSummary, settings: Settings) -> None:
    assert (summary.tracks_planned, summary.tracks_done, summary.tracks_failed) == (SONGS, SONGS, 0)
    assert (summary.shards, summary.shards_made, summary.clips_done, summary.clips_failed) == (3, 3, 15, 0)
    assert summary.made_audio_s == 15 * CLIP_S
    assert 0 < summary.network_s <= summary.wall_s
    assert summary.times_real_time == pytest.approx(summary.made_audio_s / summary.wall_s)
    assert summary.disk_bytes == sum(p.stat().st_size for p in settings.separate.stems_dir.glob("*.tar"))


def test_a_cached_clip_is_those_seconds_of_the_whole_tracks_separation(
    summary: SeparateSummary, settings: Settings, separator: Separator, folder: Path
) -> None:
    cache = StemCache(settings.separate.stems_dir)
    assert cache.complete
    for track in cache.tracks[:2]:
        audio, _ = soundfile.read(folder / "music" / track.path, dtype="float32")
        whole = separator.separate([torch.from_numpy(audio.T.copy())])[0].numpy()
        assert [clip.start_frame for clip in track.clips] == clip_starts(len(audio), CLIP, 3, 0)
        for clip in track.clips:
            expected = whole[..., clip.start_frame : clip.start_frame + CLIP]
            # half a 16-bit step, and 1e-5 for float32 sums in another order
            atol = clip.scale / 65_536 + 1e-5
            np.testing.assert_allclose(cache.read_clip(clip), expected, atol=atol, rtol=0)
        told = cache.read_metadata(track)
        assert (told["source_rate"], told["source_frames"], told["duration_s"]) == (RATE, 3 * RATE, 3.0)
        assert told["separator"] == separator.fingerprint
        assert len(told["content_hash"]) == 32


def test_run_again_it_does_nothing(copy: Settings) -> None:
    folder = copy.separate.stems_dir
    before = {path: path.stat().st_mtime_ns for path in folder.glob("stems-*")}
    again = separate(copy)
    assert (again.shards_made, again.tracks_done) == (0, SONGS)
    assert torch.get_num_threads() == 1  # left as it was
    assert {path: path.stat().st_mtime_ns for path in folder.glob("stems-*")} == before


def test_bytes_hang_on_the_plan_alone(folder: Path, summary: SeparateSummary, tmp_path: Path) -> None:
    """Other shards first, more workers, elsewhere: the same bytes."""
    shutil.copytree(folder / "separator", tmp_path / "separator")
    chosen = profile(tmp_path, folder / "music", workers=3)
    run = open_run(chosen)
    third = make_shard(run, 2)
    assert third.tar.read_bytes() == (folder / "stems" / "stems-000002.tar").read_bytes()
    written = third.tar.stat().st_mtime_ns
    assert make_shard(run, 2) == third  # idempotent
    assert third.tar.stat().st_mtime_ns == written
    made = separate(chosen)
    assert made.shards_made == 2
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["stems-000000.json", ".stems-000001.tar.partial"])
def test_killed_and_run_again_it_ends_as_an_unbroken_run(
    folder: Path, summary: SeparateSummary, tmp_path: Path, moment: str
) -> None:
    shutil.copytree(folder / "separator", tmp_path / "separator")
    chosen = profile(tmp_path, folder / "music")
    run_until(tmp_path / "stems" / moment, "separate", "--config", str(tmp_path / "profile.yaml"))
    stems = tmp_path / "stems"
    kept = {path: path.stat().st_mtime_ns for path in stems.glob("stems-*.json")}
    assert len(kept) == 1
    again = separate(chosen)
    assert again.shards_made == 3 - len(kept)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # finished shards were not made again
    assert hashes(stems) == hashes(folder / "stems")
    assert not list(stems.glob(".*partial"))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"clip_s": 0.6}, r"separate\.clip_s: 0\.5 -> 0\.6"),
        ({"clips_per_track": 2}, r"separate\.clips_per_track: 3 -> 2"),
        ({"seed": 1}, r"separate\.seed: 0 -> 1"),
        ({"num_overlap": 1}, r"separate\.num_overlap: 2 -> 1"),
        ({"threads": 2, "streams": 1}, r"separate\.threads_per_stream: 1 -> 2"),
        ({"batch_chunks": 2}, r"separate\.batch_chunks: 1 -> 2"),
        ({"precision": "bf16"}, r"separate\.precision: fp32 -> bf16"),
        ({"silence_lufs": -50.0}, r"separate\.silence_lufs: -60\.0 -> -50\.0"),
    ],
)
def test_a_changed_setting_is_named_and_nothing_is_mixed(copy: Settings, change: dict[str, object], told: str) -> None:
    changed = replace(copy, separate=replace(copy.separate, **change))
    before = hashes(copy.separate.stems_dir)
    with pytest.raises(MixstyleError) as caught:
        separate(changed)
    assert caught.value.code == "stale"
    assert caught.value.remedy[-1] == "--rebuild"
    assert re.search(told, str(caught.value))
    assert hashes(copy.separate.stems_dir) == before
    assert separate(replace(copy, separate=replace(copy.separate, workers=3))).shards_made == 0  # does not matter


def test_another_separator_is_noticed(copy: Settings, tmp_path: Path) -> None:
    write_separator(tmp_path / "separator", seed=1)
    with pytest.raises(MixstyleError) as caught:
        separate(copy)
    assert caught.value.code == "stale"
    assert "separator: " in str(caught.value)


def test_rebuild_makes_all_of_it_though_nothing_changed(copy: Settings, folder: Path, tmp_path: Path) -> None:
    assert separate(copy).shards_made == 0
    # each of several processes is given the option: the second does not undo what the first has made
    assert separate(copy, rebuild=True, shard_index=0, num_shards=2).shards_made == 0
    assert separate(copy, rebuild=True).shards_made == 3
    assert hashes(tmp_path / "stems") == hashes(folder / "stems")


def test_a_changed_folder_is_told_and_rebuilt(
    copy: Settings, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    music = tmp_path / "music"
    moved = profile(tmp_path, music)
    with pytest.raises(MixstyleError) as caught:
        separate(moved)
    assert caught.value.code == "stale"
    assert "data_path: " in str(caught.value)
    separate(moved, rebuild=True)
    assert hashes(tmp_path / "stems", ["*.tar"]) == hashes(folder / "stems", ["*.tar"])

    soundfile.write(music / "new.wav", song(99), RATE)
    (music / "song 0.flac").unlink()
    with pytest.raises(MixstyleError) as caught:
        separate(moved)
    assert caught.value.code == "stale"
    assert numbers(caught.value.message)[-2:] == [1, 1], "files added, files removed"
    rebuilt = separate(moved, rebuild=True)
    assert rebuilt.shards_made == 3
    assert {track.path for track in StemCache(tmp_path / "stems").tracks} >= {"new.wav"}

    write_songs(music, SONGS, seed=7)  # the same names, other songs
    with pytest.raises(MixstyleError) as caught:
        separate(moved)
    assert caught.value.code == "stale"
    assert numbers(caught.value.message)[-2:] == [1, SONGS - 1], "files added, files changed"


def test_a_lost_manifest_is_made_again_and_a_damaged_shard_too(copy: Settings, folder: Path) -> None:
    stems = copy.separate.stems_dir
    (stems / "plan.jsonl.gz").unlink()
    tar = stems / "stems-000001.tar"
    tar.write_bytes(tar.read_bytes()[:1000])
    assert separate(copy).shards_made == 1
    assert hashes(stems) == hashes(folder / "stems")


def test_stems_that_exist_are_taken_as_they_are(tmp_path: Path) -> None:
    stems = {}
    for i in range(3):
        for j, stem in enumerate(("vocals", "bass", "drums", "other")):
            path = tmp_path / "songs" / f"Band {i} - Song" / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            stems[i, j] = song(10 * i + j, seconds=2.0)
            soundfile.write(path, stems[i, j], RATE, subtype="FLOAT")
    (tmp_path / "songs" / "Band 2 - Song" / "bass.wav").unlink()
    chosen = profile(tmp_path, tmp_path / "songs", input="stems", separator_checkpoint="there is none")
    summary = separate(chosen)
    assert (summary.tracks_done, summary.failures_by_reason) == (2, {"missing stem": 1})
    missing = "missing stem: bass (if the song has none, add a silent file as long as the others)"
    assert [f.reason for f in read_failures(tmp_path / "stems" / "failures.csv")] == [missing]
    cache = StemCache(tmp_path / "stems")
    assert cache.read_metadata(cache.tracks[0])["separator"] == "stems"
    for track in cache.tracks:
        i = int(track.path.split()[1])
        for clip in track.clips:
            for j in range(4):
                expected = stems[i, j][clip.start_frame : clip.start_frame + CLIP].T
                # half a step of 16 bits, and 2^-24 of samples below 1 for what is float32
                np.testing.assert_allclose(cache.read_clip(clip)[j], expected, atol=clip.scale / 65_536 + 1e-7, rtol=0)


def test_whole_track_normalisation_sees_the_whole_track(tmp_path: Path) -> None:
    write_separator(tmp_path / "separator", normalize=True)
    audio = song(0) * np.linspace(0.1, 1.5, 3 * RATE)[:, None].astype(np.float32)  # its clips differ in level
    (tmp_path / "music").mkdir()
    soundfile.write(tmp_path / "music" / "a.wav", audio, RATE, subtype="FLOAT")
    chosen = profile(tmp_path, tmp_path / "music")
    separate(chosen)
    network = load_separator(chosen.separate.separator_config, chosen.separate.separator_checkpoint)
    assert network.needs_whole_track
    whole = network.separate([torch.from_numpy(audio.T.copy())])[0].numpy()
    cache = StemCache(tmp_path / "stems")
    for clip in cache.tracks[0].clips:
        expected = whole[..., clip.start_frame : clip.start_frame + CLIP]
        # half a step of 16 bits, and -100 dBFS for float32 sums of a network in batches of other sizes
        np.testing.assert_allclose(cache.read_clip(clip), expected, atol=clip.scale / 65_536 + 1e-5, rtol=0)


def test_without_a_usable_track_it_says_where_the_reasons_are(tmp_path: Path) -> None:
    (tmp_path / "music").mkdir()
    (tmp_path / "music" / "a.mp3").write_text("no music")
    with pytest.raises(MixstyleError) as caught:
        separate(profile(tmp_path, tmp_path / "music"))
    assert caught.value.code == "no-music"
    assert "failures.csv" in str(caught.value)
    assert [failure.kind for failure in read_failures(tmp_path / "stems" / "failures.csv")] == ["not music"]
    chosen = profile(tmp_path, tmp_path / "music")
    with pytest.raises(MixstyleError) as caught:
        separate(replace(chosen, separate=replace(chosen.separate, clip_s=0.3)), rebuild=True)
    assert caught.value.code == "bad-setting"
    assert "separate.clip_s=0.3" in str(caught.value)


def test_the_plan_tells_what_the_run_then_does(
    run_and_chunks: tuple[SeparateSummary, int],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    summary, chunks = run_and_chunks
    chunk_s, measured = 1e6, dry_run_module.time_network

    def slow(*given: Any) -> tuple[float, torch.Tensor]:
        return chunk_s, measured(*given)[1]

    # a network so slow that all else counts as nothing: the estimate is then a number of chunks, not a time
    monkeypatch.setattr(dry_run_module, "time_network", slow)
    shutil.copytree(folder / "music", tmp_path / "music")
    soundfile.write(tmp_path / "music" / "short.wav", song(0, seconds=0.7), RATE)
    chosen = profile(tmp_path, tmp_path / "music")
    told = dry_run(chosen)
    assert not (tmp_path / "stems").exists()
    assert (told.tracks, told.sampled, told.unusable) == (SONGS + 1, SONGS + 1, {"too short": 1})
    assert told.hours == pytest.approx((SONGS * 3.0 + 0.7) / 3600)
    assert (told.clips, told.shards, told.shards_done) == (summary.clips_done, 3, 0)
    assert sum(told.splits.values()) == SONGS + 1
    # every song is alike noise, so a chunk of one tells the size of all: 15% for what chunks and clips differ in
    assert told.disk_bytes == pytest.approx(summary.disk_bytes, rel=0.15)
    assert told.enough_disk
    assert told.expected_s is not None
    # encoding takes milliseconds a clip, so less than 1e-3 chunks in all
    assert told.expected_s / chunk_s == pytest.approx(chunks, abs=1e-2)
    printed = capsys.readouterr().out
    assert counted(told.tracks, "track") in printed
    assert dry_run_module.free_told(told.disk_free_bytes) in printed


def test_the_plan_needs_no_separator_to_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_songs(tmp_path / "music", 2)
    told = dry_run(profile(tmp_path, tmp_path / "music", separator_checkpoint="gone.ckpt"))
    assert told.expected_s is None
    assert "gone.ckpt" in capsys.readouterr().out, "why there is no time"


@pytest.mark.slow
def test_the_plan_of_106574_tracks_reads_the_headers_of_a_few(tmp_path: Path) -> None:
    sources = write_songs(tmp_path / "source", 20)
    sources = sorted(sources.iterdir())
    for number in range(106_574):
        path = tmp_path / "music" / f"{number // 1_000:03d}" / f"{number:06d}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(sources[number % 20], path)
    told = dry_run(profile(tmp_path, tmp_path / "music", tracks_per_shard=32))
    assert 0 < told.sampled <= dry_run_module.SAMPLE_TRACKS == 400
    assert (told.tracks, told.shards) == (106_574, 3_331)
    assert told.clips == 3 * 106_574
    assert told.hours == pytest.approx(106_574 * 3 / 3600)
