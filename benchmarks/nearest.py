"""How long the exact search of an index takes by itself, for more songs than anyone has indexed: random embeddings.

    uv run python benchmarks/nearest.py --songs 100000 --songs 1000000

One thread, seconds of the processor: the least and the median of the rounds. A million songs take 3.1 GB of memory.
"""

import statistics
import time
from typing import Annotated

import faiss
import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from separation import processor

DIMENSIONS = 768
"""Of the shipped encoder."""
BLOCK = 50_000


def main(
    songs: Annotated[list[int] | None, typer.Option(help="In the index; may be repeated.")] = None,
    rounds: Annotated[int, typer.Option(help="Of each size.")] = 7,
    nearest: Annotated[int, typer.Option(help="How many are asked for.")] = 10,
) -> None:
    """Measures and prints a table."""
    faiss.omp_set_num_threads(1)
    table = Table("songs", title=f"{nearest} nearest of one song, {processor()}")
    for column in ("MB", "s: least (median)"):
        table.add_column(column, justify="right")
    for count in songs or [100_000, 1_000_000]:
        rng = np.random.default_rng(count)
        index, query = faiss.IndexFlatIP(DIMENSIONS), unit(rng, 1)
        for start in range(0, count, BLOCK):
            block = unit(rng, min(BLOCK, count - start))
            if start == 0:
                block[0] = query
            index.add(block)
        seconds = []
        for _ in range(rounds):
            begun = time.process_time()
            _, found = index.search(query, nearest)
            seconds.append(time.process_time() - begun)
            if found[0, 0] != 0:
                raise SystemExit("a song is not its own nearest")
        size = 4 * DIMENSIONS * count / 1e6
        table.add_row(f"{count:,}", f"{size:,.0f}", f"{min(seconds):.3f} ({statistics.median(seconds):.3f})")
    Console().print(table)


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    """Random embeddings of unit length, [count, DIMENSIONS] float32."""
    values = rng.standard_normal((count, DIMENSIONS), dtype=np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


if __name__ == "__main__":
    typer.run(main)
