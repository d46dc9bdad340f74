"""Peak memory of each command: the most that it and all its processes hold at one moment.

    uv run python benchmarks/memory.py                    # the steps of the demo, and songs of 4 and 40 minutes
    uv run python benchmarks/memory.py --only stems --only match
    uv run python benchmarks/memory.py --no-steps --song-min 4 --song-min 20

Each command runs in a folder of its own. Every 50 ms the proportional set sizes (PSS) of the command and of all that
descend from it are summed: a page that several processes share counts once, and libraries' pages count, too. The last
column is the kernel's own mark of the most that a single process had resident (VmHWM): a peak between two samples shows
there, and shared pages count in full. Music is rendered by `mixstyle demo-songs`, and joined end to end for the songs'
lengths.
"""

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from separation import processor

from mixstyle.pipeline.core.cores import usable_cores

EVERY_S = 0.05
RATE = 44_100
FILES = Path(__file__).parent.parent / "Music-Source-Separation-Training"
PROFILE = f"""\
separate:
  separator_config: {FILES}/configs/scnet_tiny.yaml
  separator_checkpoint: {FILES}/scnet_tiny_2.safetensors
"""
FEWER = (
    "demo_songs.duration_s=30",
    "remix.blocks=6",
    "train.num_epochs=1",
    "train.steps_per_epoch=3",
    "evaluate.chains=10",
    "evaluate.hard_chains=3",
    "evaluate.whitening_chains=4",
)
"""Of the demo less than it has, where more of the same takes no more memory at a time."""

STEPS = (
    "--help",
    "demo-songs",
    "separate",
    "remix",
    "features",
    "train",
    "evaluate",
    "report",
    "export",
    "status",
    "verify",
    "doctor",
)


@dataclass(frozen=True)
class Peak:
    """Of one command, in bytes. pss: of all its processes together. largest: the most that one of them had resident.
    processes: the most that were there at once."""

    pss: int
    largest: int
    processes: int
    seconds: float


def main(
    only: Annotated[list[str] | None, typer.Option(help="A command, e.g. stems; may be repeated.")] = None,
    steps: Annotated[bool, typer.Option(help="The steps of the demo.")] = True,
    song_min: Annotated[list[float] | None, typer.Option(help="Lengths of songs in minutes; 4 and 40.")] = None,
    whole: Annotated[bool, typer.Option(help="All of the demo, which takes minutes more.")] = False,
) -> None:
    """Measures and prints a table in Markdown."""
    print(f"{processor()}, {usable_cores()} cores, torch {torch.__version__}\n")
    print("| command | peak of all processes, MB | processes | s | largest process, MB |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if steps:
            for name, peak in steps_of(folder, () if whole else FEWER, only or ()):
                show(name, peak)
        lengths = song_min if song_min is not None else [4.0, 40.0]
        for name, peak in songs_of(folder, lengths, only or ()):
            show(name, peak)


def show(name: str, peak: Peak) -> None:
    """A row of the table."""
    print(
        f"| `{name}` | {peak.pss / 1e6:,.0f} | {peak.processes} | {peak.seconds:.0f} | {peak.largest / 1e6:,.0f} |",
        flush=True,
    )


def steps_of(folder: Path, changed: Sequence[str], only: Collection[str]) -> Iterator[tuple[str, Peak]]:
    """Each step of the demo, in order. Those that are not asked for run too, where a later one needs what they make."""
    options = ["--config", "demo", *(word for one in changed for word in ("--set", one))]
    last = max((STEPS.index(name) for name in only if name in STEPS), default=-1 if only else len(STEPS))
    for name in STEPS[: last + 1]:
        more = ["encoder.safetensors"] if name == "export" else []
        peak = peak_of([name, *more, *(options if name != "--help" else ())], folder)
        if not only or name in only:
            yield name, peak


def songs_of(folder: Path, lengths: Sequence[float], only: Collection[str]) -> Iterator[tuple[str, Peak]]:
    """Commands on songs, each on a song of every length; `search` in an index of three songs."""
    commands = {
        "describe": lambda song, out: ["describe", song, "--json", f"{out}.json"],
        "embed": lambda song, out: ["embed", song, "-o", f"{out}.parquet"],
        "index": lambda song, out: ["index", f"{song}.folder", "--index", f"{out}.index"],
        "search": lambda song, out: ["search", song, "--index", "three.index"],
        "compare": lambda song, out: ["compare", song, "three/0.wav", "--json", f"{out}.compare.json"],
        "match": lambda song, out: ["match", song, "-r", "three/0.wav", "-o", f"{out}.match.wav"],
        "apply": lambda song, out: ["apply", "chain.json", song, "-o", f"{out}.apply.wav"],
        "stems": lambda song, out: ["stems", song, "-o", f"{out}.stems"],
    }
    wanted = {name: words for name, words in commands.items() if not only or name in only}
    if not wanted or not lengths:
        return
    (folder / "songs.yaml").write_text(PROFILE)
    made = sorted((folder / "data/demo/songs").rglob("*.flac"))
    if not made:
        peak_of(["demo-songs", "--config", "demo", "--songs", "3", "--set", FEWER[0]], folder)
        made = sorted((folder / "data/demo/songs").rglob("*.flac"))
    (folder / "three").mkdir()
    for i, song in enumerate(made[:3]):
        soundfile.write(folder / "three" / f"{i}.wav", soundfile.read(song)[0], RATE)
    peak_of(["index", "three", "--index", "three.index"], folder)
    if "apply" in wanted:
        words = ["match", "three/1.wav", "-r", "three/0.wav", "-o", "made.wav", "--chain", "chain.json"]
        peak_of([*words, "--config", "songs.yaml"], folder)
    for minutes in lengths:
        song = f"{minutes:g}.wav"
        write_long(folder / song, made, minutes * 60)
        (folder / f"{song}.folder").mkdir()
        (folder / f"{song}.folder" / song).symlink_to(folder / song)
    for name, words in wanted.items():
        for minutes in lengths:
            song = f"{minutes:g}.wav"
            yield (
                f"{name}, a song of {minutes:g} min",
                peak_of([*words(song, f"{minutes:g}"), "--config", "songs.yaml"], folder),
            )
            shutil.rmtree(folder / f"{minutes:g}.stems", ignore_errors=True)


def write_long(path: Path, songs: Sequence[Path], length_s: float) -> None:
    """Songs, one after the other and from the first again, until `length_s` are there."""
    left = round(length_s * RATE)
    with soundfile.SoundFile(path, "w", RATE, 2, "PCM_16") as file:
        for song in itertools.cycle(songs):
            audio = soundfile.read(song, dtype="float32", always_2d=True)[0]
            file.write(np.broadcast_to(audio, (len(audio), 2))[:left])
            left -= len(audio)
            if left <= 0:
                return


def peak_of(words: Sequence[str], folder: Path) -> Peak:
    """Runs `mixstyle WORDS` in a folder. Raises SystemExit with what it printed where it fails."""
    return peak_of_command([sys.executable, "-m", "mixstyle.stages", *words], folder)


def peak_of_command(words: Sequence[str], folder: Path) -> Peak:
    """Runs a command, and samples it and its descendants until it has ended."""
    with tempfile.TemporaryFile() as told:
        start = time.perf_counter()
        process = subprocess.Popen(words, cwd=folder, stdout=told, stderr=subprocess.STDOUT, start_new_session=True)
        sampler = Sampler(process.pid)
        sampler.start()
        process.wait()
        seconds = time.perf_counter() - start
        sampler.stop()
        if process.returncode:
            told.seek(0)
            raise SystemExit(f"{' '.join(words)} failed:\n{told.read().decode(errors='replace')}")
    return Peak(sampler.pss, sampler.largest, sampler.processes, seconds)


class Sampler(threading.Thread):
    """Sums the sizes of a session's processes, and of all that descend from its first one, until it is stopped."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.first, self.pss, self.largest, self.processes = pid, 0, 0, 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.is_set():
            start = time.perf_counter()
            found = {pid: status_of(pid) for pid in descendants(self.first)}
            sizes = [status["VmRSS"] for status in found.values() if "VmRSS" in status]
            self.processes = max(self.processes, len(sizes))
            self.largest = max([self.largest, *(status.get("VmHWM", 0) for status in found.values())])
            if sum(sizes) > self.pss:  # shared pages count in full there, so the sum of PSS is no more; it takes longer
                self.pss = max(self.pss, sum(pss_of(pid) for pid in found))
            self._ended.wait(max(EVERY_S - (time.perf_counter() - start), 0))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def descendants(first: int) -> set[int]:
    """A process, those of its session (a worker whose parent has ended is there still), and what descends from them."""
    parents: dict[int, int] = {}
    found = {first}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            # after the name, which may hold spaces and brackets: state, parent, group, session
            _, parent, _, session = Path(entry.path, "stat").read_text().rpartition(")")[2].split()[:4]
        except OSError:
            continue
        parents[int(entry.name)] = int(parent)
        if int(session) == first:
            found.add(int(entry.name))
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def status_of(pid: int) -> dict[str, int]:
    """Resident set size (VmRSS) and the most that it was (VmHWM), in bytes; nothing of a process that has ended."""
    return _sizes(f"/proc/{pid}/status", ("VmRSS", "VmHWM"))


def pss_of(pid: int) -> int:
    """Proportional set size in bytes; 0 for a process that has ended."""
    return _sizes(f"/proc/{pid}/smaps_rollup", ("Pss",)).get("Pss", 0)


def _sizes(file: str, fields: Collection[str]) -> dict[str, int]:
    """Fields that the kernel tells in kB, in bytes."""
    try:
        rows = [line.split() for line in Path(file).read_text().splitlines()]
    except OSError:
        return {}
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[0].rstrip(":") in fields}


if __name__ == "__main__":
    typer.run(main)
