"""What the search structure of an index costs, exact and approximate, for more songs than anyone has indexed.

    uv run python benchmarks/nearest.py --songs 100000 --songs 1000000

The embeddings are drawn, with the spread of the shipped encoder's: a common direction with 0.36 of the power, the rest
over directions whose variances fall as in its embeddings of 545 clips of 156 songs (the i-th by i^-0.8). Seconds are of
the clock, with as many threads as cores; of a search by one thread of the processor, the least and the median of the
rounds. Recall: of the ten nearest of songs spread over the index. A million songs take 8 GB of memory.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from separation import processor

from mixstyle.cache.song_index.nearest import NEAREST, Nearest, load_nearest

DIMENSIONS, DIRECTIONS = 768, 100
"""Of the shipped encoder, and of those in which made-up songs differ."""
COMMON_POWER, FALL = 0.36, 0.8
BLOCK = 50_000


def main(
    songs: Annotated[list[int] | None, typer.Option(help="In the index; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Searches of each kind.")] = 50,
    nearest: Annotated[int, typer.Option(help="How many are asked for.")] = 10,
) -> None:
    """Measures and prints a table."""
    table = Table("songs", "search", title=f"{nearest} nearest of one song, {processor()}")
    for column in ("MB", "s to make it", "s to open it", "ms a search: least (median)", "recall"):
        table.add_column(column, justify="right")
    for count in songs or [100_000, 1_000_000]:
        embeddings = drawn(count)
        paths = [f"{place:09}" for place in range(count)]
        for name, exact_below in (("exact", count + 1), ("approximate", 0)):
            with tempfile.TemporaryDirectory() as folder:
                begun = time.perf_counter()
                load_nearest(Path(folder), paths, list(embeddings), exact_below=exact_below, must_keep=True)
                made_s = time.perf_counter() - begun
                begun = time.perf_counter()
                found = load_nearest(Path(folder), paths, list(embeddings), exact_below=exact_below, must_keep=True)
                opened_s = time.perf_counter() - begun
                size_mb = (Path(folder) / NEAREST).stat().st_size / 1e6
            taken = [1e3 * seconds for seconds in searches(found, embeddings, rounds, nearest)]
            told = "1" if found.recall is None else f"{found.recall:.3f}"
            each = f"{min(taken):.1f} ({statistics.median(taken):.1f})"
            table.add_row(f"{count:,}", name, f"{size_mb:,.0f}", f"{made_s:.1f}", f"{opened_s:.1f}", each, told)
    Console().print(table)


def searches(found: Nearest, embeddings: np.ndarray, rounds: int, k: int) -> list[float]:
    """Seconds of the processor that searches for songs spread over the index take, by one thread."""
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    seconds = []
    for song in np.linspace(0, len(embeddings) - 1, rounds).round().astype(int):
        begun = time.process_time()
        best = found.search(embeddings[song], k)
        seconds.append(time.process_time() - begun)
        if best[0][0] != song:
            raise SystemExit("a song is not its own nearest")
    faiss.omp_set_num_threads(threads)
    return seconds


def drawn(count: int) -> np.ndarray:
    """Made-up embeddings of unit length, [count, DIMENSIONS] float32."""
    rng = np.random.default_rng(count)
    basis = np.linalg.qr(rng.standard_normal((DIMENSIONS, DIRECTIONS + 1)))[0].T.astype(np.float32)
    power = np.arange(1, DIRECTIONS + 1) ** -FALL
    scale = np.sqrt((1 - COMMON_POWER) * power / power.sum()).astype(np.float32)
    found = np.empty((count, DIMENSIONS), np.float32)
    for start in range(0, count, BLOCK):
        block = rng.standard_normal((min(BLOCK, count - start), DIRECTIONS), dtype=np.float32) * scale
        block = block @ basis[1:] + np.float32(COMMON_POWER**0.5) * basis[0]
        found[start : start + len(block)] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return found


if __name__ == "__main__":
    typer.run(main)
