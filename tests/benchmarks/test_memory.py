"""The benchmark of memory counts what a command and its processes hold, for as long as they hold it."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import soundfile
from helpers.benchmarks import benchmark
from helpers.small_separator import RATE, song

BLOCK = 64 * 2**20
"""Bytes that a process of these tests takes."""
ROOM = 24 * 2**20
"""An interpreter that has imported numpy's worth of nothing: below 16 MB, and some room."""


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return benchmark("memory", monkeypatch)


def held(code: str, memory: ModuleType, folder: Path):
    return memory.peak_of_command([sys.executable, "-c", code], folder)


def test_what_a_process_and_its_children_hold_is_summed(memory: ModuleType, tmp_path: Path) -> None:
    alone = f"import time; x = b'x' * {BLOCK}; time.sleep(0.5)"
    two = f"import subprocess, sys; x = b'x' * {BLOCK}\nsubprocess.run([sys.executable, '-c', {alone!r}], check=True)"
    one, both = held(alone, memory, tmp_path), held(two, memory, tmp_path)
    assert BLOCK < one.pss < BLOCK + ROOM
    assert 2 * BLOCK < both.pss < 2 * (BLOCK + ROOM)
    assert (one.processes, both.processes) == (1, 2)
    assert BLOCK < both.largest < BLOCK + ROOM


def test_what_was_freed_counts_and_what_is_shared_counts_once(memory: ModuleType, tmp_path: Path) -> None:
    code = (
        "import os, time\n"
        f"x = b'x' * {BLOCK}\n"
        "pid = os.fork()\n"
        "time.sleep(0.4)\n"
        "pid and os.wait()\n"
        "del x\n"
        "time.sleep(0.4)"
    )
    peak = held(code, memory, tmp_path)
    assert peak.processes == 2
    # the block is in both: proportional sizes count it once, resident sizes would count it twice
    assert BLOCK < peak.pss < BLOCK + 2 * ROOM


def test_a_worker_whose_parent_has_ended_counts(memory: ModuleType, tmp_path: Path) -> None:
    worker = f"import time; x = b'x' * {BLOCK}; time.sleep(0.6)"
    middle = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {worker!r}])"
    code = f"import subprocess, sys, time; subprocess.run([sys.executable, '-c', {middle!r}]); time.sleep(0.8)"
    assert held(code, memory, tmp_path).pss > BLOCK


def test_a_command_that_fails_is_told_with_its_words(memory: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="bad-luck"):
        held("raise SystemExit('bad-luck')", memory, tmp_path)


def test_long_songs_have_their_length_and_are_the_songs_in_turn(memory: ModuleType, tmp_path: Path) -> None:
    songs = []
    for i, seconds in enumerate((0.5, 0.75)):
        songs.append(tmp_path / f"{i}.wav")
        soundfile.write(songs[-1], song(i, seconds), RATE, "PCM_16")
    memory.write_long(tmp_path / "long.wav", songs, 3.0)
    made, rate = soundfile.read(tmp_path / "long.wav", dtype="int16")
    assert (len(made), rate) == (3 * RATE, RATE)
    first, second = (soundfile.read(path, dtype="int16")[0] for path in songs)
    length = len(first) + len(second)
    for start in (0, length):
        assert (made[start : start + len(first)] == first).all()
        assert (made[start + len(first) : start + length] == second).all()


@pytest.mark.slow
def test_it_prints_a_row_a_command_and_length(
    memory: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    memory.main(["describe", "--help"], True, [0.5], False)
    lines = capsys.readouterr().out.splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `")]
    values = {row[0].strip("`"): [float(cell.replace(",", "")) for cell in row[1:]] for row in rows}
    assert set(values) == {"--help", "describe, a song of 0.5 min"}
    # MB: the command line alone loads no torch; a song needs it
    assert values["--help"][0] < 60
    assert 300 < values["describe, a song of 0.5 min"][0] < 4000
