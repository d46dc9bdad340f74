"""What commands take before they do anything: `--help`, a search in an index of three songs, and `status` of that index
and of stems and descriptors.

    uv run python benchmarks/startup.py

Each in a process of its own, in turns: the least and the median of the rounds, on the clock and of the processor.
A first round, which is not counted, stores Python's bytecode. So the figures are those of a package that was used
before.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import soundfile
import torch
import typer
from rich.console import Console
from rich.table import Table
from separation import processor

RATE = 44_100
CLIPS = ("--set", "separate.clip_s=1.0", "--set", "train.clip_duration_s=1.0", "--set", "remix.blocks=0")
"""The songs are short, and there is no bank."""


def main(rounds: Annotated[int, typer.Option(help="Of each command.")] = 7) -> None:
    """Measures and prints a table."""
    console = Console()
    console.print(f"{processor()}, torch {torch.__version__}, {rounds} rounds, load average {os.getloadavg()[0]:.0f}")
    python, command = [sys.executable, "-c"], [sys.executable, "-m", "mixstyle.stages"]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_songs(folder / "music")
        (folder / "stems").mkdir()
        indexed, separated = folder, folder / "stems"
        run([*command, "index", "music"], indexed)
        for words in (["separate", "--data-path", "../music"], ["features"], ["status"]):
            run([*command, *words, *CLIPS], separated)  # the first look at a separator's files keeps what they tell
        ways = {
            "python -c pass": ([*python, "pass"], folder),
            "import mixstyle": ([*python, "import mixstyle"], folder),
            "mixstyle --help": ([*command, "--help"], folder),
            "mixstyle search, a song of an index of 3 songs": ([*command, "search", "music/1.flac"], indexed),
            "mixstyle status, an index and no other outputs": ([*command, "status"], indexed),
            "mixstyle status, stems and descriptors of 3 songs": ([*command, "status", *CLIPS], separated),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for words, place in ways.values():
            run(words, place)
        for _ in range(rounds):
            for name, (words, place) in ways.items():
                found[name].append(run(words, place))
    table = Table("what", title="seconds: least (median)")
    for column in ("on the clock", "of the processor"):
        table.add_column(column, justify="right")
    for name, turns in found.items():
        table.add_row(name, *(f"{min(s):.2f} ({statistics.median(s):.2f})" for s in zip(*turns, strict=True)))
    console.print(table)


def run(words: list[str], folder: Path) -> tuple[float, float]:
    """Runs a command: seconds on the clock and of the processor."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(words, cwd=folder, env=environment, capture_output=True, check=True)
    wall_s, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def write_songs(folder: Path) -> None:
    """Three songs of three seconds: noise and a tone."""
    folder.mkdir()
    t = np.arange(3 * RATE)[:, None] / RATE
    for i in range(3):
        noise = 0.05 * np.random.default_rng(i).standard_normal((len(t), 2))
        soundfile.write(folder / f"{i}.flac", 0.2 * np.sin(2 * np.pi * 200 * (i + 1) * t) + noise, RATE)


if __name__ == "__main__":
    typer.run(main)
