"""What a run finds damaged or failed for the machine's sake, and what the next run makes of it."""

from pathlib import Path
from typing import Any

import pytest
import soundfile
from helpers.failure_log import read_failures
from helpers.odd_audio import write_ffmpeg
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.cache.music import decode_pool
from mixstyle.cache.stem_store.shards import read_shard
from mixstyle.stages.separate.stage import separate


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files over which every decoder is killed."""
    names: list[str] = []
    exchange = decode_pool.Decoder._exchange

    def maybe(decoder: Any, line: bytes) -> Any:
        if any(name.encode() in line for name in names):
            raise decode_pool._CrashError("SIGKILL")
        return exchange(decoder, line)

    monkeypatch.setattr(decode_pool.Decoder, "_exchange", maybe)
    return names


def test_tracks_whose_decoder_was_killed_are_made_in_the_next_run(tmp_path: Path, killed: list[str]) -> None:
    music = write_songs(tmp_path / "music", 4, seconds=2.0)
    whole = profile(tmp_path / "whole", music)
    separate(whole)
    settings = profile(tmp_path / "killed", music)
    killed.append("song 2")
    first = separate(settings)
    assert (first.tracks_done, first.failures_by_reason) == (3, {"the decoder crashed": 1})
    killed.clear()
    second = separate(settings)
    assert (second.tracks_done, second.tracks_failed, second.shards_made) == (4, 0, 1)
    stems = tmp_path / "killed" / "stems"
    assert hashes(stems, ("*.tar", "stems-*.json", "*.csv")) == hashes(
        tmp_path / "whole" / "stems", ("*.tar", "stems-*.json", "*.csv")
    )
    assert not list(stems.glob(".stems-*"))


def test_a_track_that_kills_its_decoder_in_two_runs_is_left(tmp_path: Path, killed: list[str]) -> None:
    settings = profile(tmp_path, write_songs(tmp_path / "music", 4, seconds=2.0))
    killed.append("song 1")
    assert [separate(settings).shards_made for _ in range(3)] == [2, 1, 0]
    assert [failure.kind for failure in read_failures(tmp_path / "stems" / "failures.csv")] == ["the decoder crashed"]
    tries = [shard.tries for number in range(2) if (shard := read_shard(tmp_path / "stems", number))]
    assert sorted(tries) == [1, 2]


def test_a_track_that_ffmpeg_alone_reads_is_made_once_ffmpeg_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    music = write_songs(tmp_path / "music", 4, seconds=2.0)
    samples, rate = soundfile.read(music / "song 1.flac", dtype="float32")
    soundfile.write(tmp_path / "decoded.au", samples, rate, subtype="FLOAT", endian="BIG")
    (music / "song 1.flac").unlink()
    (music / "song 1.m4a").write_bytes(b"....ftypM4A " + bytes(1_000))
    settings = profile(tmp_path, music)
    first = separate(settings)
    assert (first.tracks_done, first.failures_by_reason) == (3, {"not music": 1})
    assert separate(settings).shards_made == 0  # nothing is new
    write_ffmpeg(programs, tmp_path / "decoded.au")
    second = separate(settings)
    assert (second.tracks_done, second.tracks_failed, second.shards_made) == (4, 0, 1)
    assert read_failures(tmp_path / "stems" / "failures.csv") == []
    assert separate(settings).shards_made == 0


@pytest.mark.parametrize("name", ["settings.json", "stems-000001.json", "plan.jsonl.gz"])
def test_damaged_files_beside_the_shards_are_made_again(name: str, tmp_path: Path) -> None:
    settings = profile(tmp_path, write_songs(tmp_path / "music", 3, seconds=2.0))
    separate(settings)
    before = hashes(tmp_path / "stems")
    path = tmp_path / "stems" / name
    path.write_bytes(path.read_bytes()[:-20])
    summary = separate(settings)
    assert summary.shards_made == (1 if name.startswith("stems-") else 0)
    assert hashes(tmp_path / "stems") == before
