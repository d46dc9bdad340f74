"""The two readers of training, `random` and `stream`, on a local disk and on a slow S3 store.

    uv run python benchmarks/readers.py                            # tracks of noise
    uv run python benchmarks/readers.py cache/stems --tracks 200   # a folder of cached stems

One epoch is read by each reader, in turns, with the loader and the workers of training; the FLAC files are handed on
and not decoded, so that reading is measured and not mixing. Before each epoch the system is asked to forget the files,
and nothing that was read from the store is kept. The store is benchmarks/slow_s3.py, in a process of its own.
"""

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from slow_s3 import BUCKET

from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip, write_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance, guard
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.encoder.objectives.base import UNTOUCHED
from mixstyle.pipeline.encoder.objectives.registry import objectives
from mixstyle.pipeline.mixing.mix_chain import MixChainSettings
from mixstyle.stages.train.data import Item, Items, Reader, Recipe, Request, load_batches
from mixstyle.stages.train.readers import RandomReader, StreamReader


class Files(Items):
    """Items that are read and handed on as they are; `stems` holds how many bytes that were."""

    def __getitem__(self, request: Request) -> Item:
        clips = self.chosen_clips(request)
        read = [request.flacs.get(c.row) or self.cache.read_bytes(c.shard, c.offset, c.size) for c in clips]
        size = torch.tensor([float(sum(map(len, read)))])
        return Item(self.tracks[request.own].track_id, size[None], size[None], (UNTOUCHED, UNTOUCHED, UNTOUCHED))


def main(
    stems_dir: Annotated[Path | None, typer.Argument(help="A folder of cached stems.")] = None,
    tracks: Annotated[int, typer.Option(help="At most so many tracks.")] = 96,
    batch_size: int = 24,
    workers: int = 2,
    rounds: int = 3,
    clip_s: Annotated[float, typer.Option(help="Of the noise.")] = 4.0,
    latency_ms: float = 20.0,
    megabytes_per_s: float = 50.0,
) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = stems_dir or noise(Path(temporary) / "stems", tracks, clip_s)
        command = [sys.executable, str(Path(__file__).with_name("slow_s3.py")), str(folder)]
        store = subprocess.Popen([*command, str(latency_ms), str(megabytes_per_s)], stdout=subprocess.PIPE, text=True)
        before = dict(os.environ)
        try:
            port = (store.stdout or sys.stdin).readline().strip()
            os.environ |= {
                "AWS_ACCESS_KEY_ID": "key",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            }
            caches = {
                "local disk": StemCache(folder),
                "slow store": RemoteStemCache(f"s3://{BUCKET}", Path(temporary) / "kept", 0),
            }
            measured = {
                where: epochs(cache, folder, tracks, batch_size, workers, rounds) for where, cache in caches.items()
            }
        finally:
            store.kill()
            store.wait()
            os.environ.clear()
            os.environ.update(before)
    print(
        f"{platform.machine()}, {usable_cores()} cores, load {os.getloadavg()[0]:.1f}; batches of "
        f"{batch_size} tracks, {workers} workers, {rounds} rounds; the store: {latency_ms:g} ms a request, "
        f"{megabytes_per_s:g} MB/s"
    )
    show(measured)


def epochs(
    cache: StemCache, folder: Path, tracks: int, batch_size: int, workers: int, rounds: int
) -> dict[str, tuple[float, float]]:
    """By reader: MB and the median of the seconds of an epoch."""
    chosen = [track for track in cache.tracks if len(track.clips) >= 2][:tracks]
    data = Files(
        cache,
        chosen,
        np.zeros((cache.n_rows, 1), np.float32),
        Recipe(MixChainSettings(), objectives()["same-song"]),
        seed=0,
        batch_size=batch_size,
        clip_frames=cache.clip_frames,
        describe_here=False,
    )
    readers: dict[str, Reader] = {
        "random": RandomReader(data),
        "stream": StreamReader(data, 4 * batch_size, range(batch_size)),
    }
    took: dict[str, list[float]] = {name: [] for name in readers}
    read_mb = 0.0
    for turn in range(rounds):
        for name, reader in readers.items():
            forget(folder)
            started = time.perf_counter()
            steps = [(turn, step) for step in range(data.steps_per_epoch)]
            read_mb = sum(float(batch.descriptors.sum()) for batch in load_batches(reader, steps, workers)) / 1e6
            took[name].append(time.perf_counter() - started)
    return {name: (read_mb, statistics.median(seconds)) for name, seconds in took.items()}


def show(measured: dict[str, dict[str, tuple[float, float]]]) -> None:
    """Prints the table and the ratios."""
    table = Table("where", "reader", "MB", "s an epoch", "MB/s")
    for where, by_reader in measured.items():
        for name, (size_mb, seconds) in by_reader.items():
            table.add_row(where, name, f"{size_mb:.0f}", f"{seconds:.2f}", f"{size_mb / seconds:.1f}")
    Console(width=100).print(table)
    for where, by_reader in measured.items():
        ratio = by_reader["random"][1] / by_reader["stream"][1]
        print(f"{where}: stream is {ratio:.2f} times as fast as random")


def forget(folder: Path) -> None:
    """Asks the system to drop the shards from its cache of files."""
    for path in folder.glob("*.tar"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def noise(folder: Path, tracks: int, clip_s: float, clips: int = 2, per_shard: int = 16) -> Path:
    """Cached stems of noise, quiet enough that FLAC files are as long as those of music."""
    folder.mkdir(parents=True)
    settings = {"clip_s": clip_s, "clips_per_track": clips, "tracks_per_shard": per_shard, "tracks": tracks}
    made_with = guard(folder / "settings.json", Provenance("separate", settings), rebuild=False).fingerprint
    rng = np.random.default_rng(0)
    frames = round(clip_s * SAMPLE_RATE)
    flac, scale = encode_clip(1e-3 * rng.standard_normal((4, 2, frames), np.float32))
    for shard in range(-(-tracks // per_shard)):
        records = []
        for index in range(shard * per_shard, min((shard + 1) * per_shard, tracks)):
            name = f"{index:012x}"
            made = tuple(ClipRecord(f"{name}_{slot}", slot, slot * frames, scale, flac) for slot in range(clips))
            records.append(TrackRecord(name, f"{name}.flac", "train", made))
        write_shard(folder, shard, records, made_with)
    return folder


if __name__ == "__main__":
    typer.run(main)
