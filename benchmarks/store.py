"""What the descriptor store's codec costs: bytes, and time to write and to read, on a store of real descriptors.

    uv run python benchmarks/store.py cache/features.zarr

The rows of the store are written into arrays of the same chunks (a chunk a stem shard), one for each codec, in memory,
so that the codecs are timed and not the disk; then they are read back whole, and a row a chunk as training reads them.
The codecs are zarr's own (Blosc, Zstd, Gzip) and those that zarr takes over from numcodecs. All of them are lossless:
what is read is compared with what was written. Medians of the rounds; times are of one thread.
"""

import statistics
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
import zarr
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from zarr.codecs import BloscCodec, BloscShuffle, GzipCodec, ZstdCodec
from zarr.codecs import numcodecs as others
from zarr.storage import MemoryStore

from mixstyle.cache.feature_store.store import FeatureStore


def codecs() -> dict[str, dict[str, Any]]:
    """Arguments of `create_array` by the codec's name; a filter comes before the compressor."""
    found: dict[str, dict[str, Any]] = {"none": {"compressors": None}}
    for name in ("zstd", "lz4", "lz4hc", "zlib", "blosclz"):
        for shuffle in ("noshuffle", "shuffle", "bitshuffle"):
            for level in (1, 5, 9):
                codec = BloscCodec(cname=name, clevel=level, shuffle=BloscShuffle(shuffle))
                found[f"Blosc {name} {level} {shuffle}"] = {"compressors": codec}
    found["Zstd 5"] = {"compressors": ZstdCodec(level=5)}
    found["Gzip 5"] = {"compressors": GzipCodec(level=5)}
    for name, codec in (
        ("Zstd 5", others.Zstd(level=5)),
        ("Zstd 19", others.Zstd(level=19)),
        ("LZ4", others.LZ4()),
        ("BZ2 9", others.BZ2(level=9)),
        ("LZMA 6", others.LZMA(preset=6)),
    ):
        found[f"numcodecs {name}"] = {"compressors": codec}
        found[f"numcodecs shuffle, {name}"] = {"compressors": [others.Shuffle(elementsize=4), codec]}
    found["numcodecs delta, shuffle, Zstd 5"] = {
        "compressors": [others.Shuffle(elementsize=4), others.Zstd(level=5)],
        # of the bits, as whole numbers: a difference of floats would round
        "filters": [others.Delta(dtype="<i4")],
    }
    return found


def measure(
    values: NDArray[np.float32] | NDArray[np.int32], rows_per_chunk: int, arguments: dict[str, Any], rounds: int
) -> tuple[int, float, float, float]:
    """Bytes of all chunks; seconds to write all, to read all, and to read one row of each chunk."""
    first_rows = np.arange(0, len(values), rows_per_chunk)
    seconds: list[tuple[float, float, float]] = []
    stored = 0
    for _ in range(rounds):
        store = MemoryStore()
        array = zarr.create_array(
            store,
            shape=values.shape,
            chunks=(rows_per_chunk, values.shape[1]),
            dtype=values.dtype,
            fill_value=float("nan") if values.dtype.kind == "f" else 0,
            zarr_format=3,
            **arguments,
        )
        times = [time.perf_counter()]
        array[:] = values
        times.append(time.perf_counter())
        back = np.asarray(array[:])
        times.append(time.perf_counter())
        array.get_orthogonal_selection((first_rows, slice(None)))
        times.append(time.perf_counter())
        if back.tobytes() != values.tobytes():
            raise SystemExit(f"{arguments}: reads back otherwise than it was written")
        seconds.append((times[1] - times[0], times[2] - times[1], times[3] - times[2]))
        stored = array.nbytes_stored()
    write_s, read_s, rows_s = (statistics.median(column) for column in zip(*seconds, strict=True))
    return stored, write_s, read_s, rows_s


def main(
    path: Annotated[Path, typer.Argument(help="A descriptor store.")],
    rounds: int = 5,
    repeat: Annotated[int, typer.Option(help="How often the store's shards are written one after the other.")] = 1,
    rows: Annotated[int, typer.Option(help="Rows in a chunk; 0 takes the store's own.")] = 0,
) -> None:
    """Prints a table of the codecs, the smallest first."""
    store = FeatureStore.open(path)
    values = np.tile(store.values(), (repeat, 1))
    rows_per_chunk = rows or store.rows_per_shard
    zarr.config.set({"threading.max_workers": 1, "async.concurrency": 1})
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that numcodecs' are not part of Zarr v3's specification
        for name, arguments in codecs().items():
            whole = values.view(np.int32) if "delta" in name else values
            found.append((name, *measure(whole, rows_per_chunk, arguments, rounds)))
    table = Table("codec", "bytes/row", "of raw", "write us/row", "read us/row", "row a chunk, ms each")
    chunks = -(-len(values) // rows_per_chunk)
    for name, stored, write_s, read_s, rows_s in sorted(found, key=lambda entry: entry[1]):
        times = (
            f"{1e6 * write_s / len(values):.1f}",
            f"{1e6 * read_s / len(values):.1f}",
            f"{1e3 * rows_s / chunks:.2f}",
        )
        table.add_row(name, f"{stored / len(values):.0f}", f"{stored / values.nbytes:.1%}", *times)
    print(f"{path}: {values.shape[0]} rows of {values.shape[1]} values, {rows_per_chunk} a chunk; {rounds} rounds")
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
