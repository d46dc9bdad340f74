"""Made-up outputs of full size: rows are left out, and hollow tars stand for whole ones, as the options say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.benchmarks import benchmark
from helpers.paths import ROOT

from mixstyle.cache.stem_store.shards import read_shard
from mixstyle.cache.stem_store.stem_cache import StemCache

TRACKS = 1600
"""Two periods of the sidecars that `--holes` copies."""
MEASURED = "opening the stems"


def run(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    given = [sys.executable, str(ROOT / "benchmarks" / "full_size.py"), "--folder", str(folder), *words]
    return subprocess.run(given, capture_output=True, text=True)


def rows(told: "subprocess.CompletedProcess[str]") -> list[str]:
    """What was measured, in its order."""
    assert told.returncode == 0, told.stderr
    return [line.partition(":")[0] for line in told.stderr.splitlines() if "'cpu_s'" in line]


def left_out(names: list[str]) -> list[str]:
    return [word for name in names for word in ("--without", name)]


def test_hollow_stems_are_those_with_tars_but_for_what_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    full_size = benchmark("full_size", monkeypatch)
    for name, make in (("whole", full_size.make_stems), ("hollow", full_size.make_hollow_stems)):
        (tmp_path / name / "stems").mkdir(parents=True)
        make(tmp_path / name, TRACKS)
    whole, hollow = (StemCache(tmp_path / name / "stems") for name in ("whole", "hollow"))
    assert [track.track_id for track in hollow.tracks] == [track.track_id for track in whole.tracks]
    assert [track.path for track in hollow.tracks] == [track.path for track in whole.tracks]
    assert (hollow.n_tracks, hollow.complete, len(hollow.tracks)) == (TRACKS, True, TRACKS * 99 // 100)
    for number in (0, 24, 25, 49):
        there, without = read_shard(whole.stems_dir, number), read_shard(hollow.stems_dir, number)
        assert there is not None
        assert without is not None
        assert there.size == without.size == without.tar.stat().st_size
        assert without.tar.stat().st_blocks == 0
        assert there.tar.stat().st_blocks > 0
    logs = [(tmp_path / name / "stems" / "failures.csv").read_bytes() for name in ("whole", "hollow")]
    assert logs[0] == logs[1]
    assert logs[0].count(b"\n") == 1 + TRACKS // 100


@pytest.mark.slow
def test_rows_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full_size = benchmark("full_size", monkeypatch)
    kept = [full_size.MADE_UP, MEASURED]
    others = [name for name in full_size.WORK if name not in kept]
    assert rows(run(tmp_path, "--tracks", "64", *left_out(others))) == kept
    assert rows(run(tmp_path, "--tracks", "800", "--holes", *left_out(others))) == [full_size.HOLLOW, MEASURED]
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_hollow_stems_cannot_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stems").mkdir()
    with pytest.raises(SystemExit) as caught:
        benchmark("full_size", monkeypatch).make_hollow_stems(tmp_path, 801)
    assert "801" in str(caught.value.code)
    assert list((tmp_path / "stems").iterdir()) == []
