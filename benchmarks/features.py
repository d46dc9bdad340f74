"""`mixstyle features` beside plainly decoding the same shards: what describing adds to reading.

    uv run python benchmarks/features.py cache/cpu/stems

Both work on the same shards with the same number of threads, in turns; the median of the rounds counts. Plain decoding
is soundfile on every FLAC member of the tars. Without a folder of stems a few rendered songs are cached first.
"""

import dataclasses
import io
import statistics
import sys
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import soundfile
import typer

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.features import FeaturesSettings
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings


def main(
    stems_dir: Annotated[Path | None, typer.Argument(help="A folder of cached stems.")] = None,
    rounds: int = 3,
    workers: Annotated[int, typer.Option(help="Threads; 0 takes every core.")] = 0,
    songs: Annotated[int, typer.Option(help="Rendered songs, where no folder is given.")] = 4,
) -> None:
    """Measures and prints."""
    workers = workers or usable_cores()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chosen = Settings(
            separate=SeparateSettings(stems_dir=stems_dir) if stems_dir else rendered(folder, songs),
            features=FeaturesSettings(features_path=folder / "features.zarr", device="cpu", workers=workers),
        )
        cache = StemCache(chosen.separate.stems_dir)
        audio_s = sum(len(track.clips) for track in cache.tracks) * cache.clip_frames / SAMPLE_RATE
        tars = [shard.tar for shard in cache.shards]
        seconds: dict[str, list[float]] = {"decoding alone": [], "features": []}
        frames = 0
        for turn in range(rounds):
            start = time.perf_counter()
            with ThreadPoolExecutor(workers) as pool:
                frames = sum(pool.map(decode, [member for tar in tars for member in members(tar)]))
            seconds["decoding alone"].append(time.perf_counter() - start)
            path = folder / f"features{turn}.zarr"
            turn_settings = dataclasses.replace(
                chosen, features=dataclasses.replace(chosen.features, features_path=path)
            )
            start = time.perf_counter()
            with redirect_stdout(io.StringIO()):
                features(turn_settings)
            seconds["features"].append(time.perf_counter() - start)
        if frames != round(audio_s * SAMPLE_RATE):
            sys.exit(f"decoded {frames} frames of {audio_s:g} s")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"{audio_s:g} s of clips in {len(tars)} shards, {workers} threads, {rounds} rounds")
    for name, taken_s in medians.items():
        print(f"{name}: {taken_s:.2f} s, {audio_s / taken_s:.0f} x real time")
    print(f"features takes {medians['features'] / medians['decoding alone']:.2f} times as long as decoding alone")


def members(tar: Path) -> list[bytes]:
    """The FLAC files of a shard."""
    with tarfile.open(tar) as archive:
        files = [archive.extractfile(member) for member in archive if member.name.endswith(".flac")]
        return [file.read() for file in files if file is not None]


def decode(data: bytes) -> int:
    """Frames of a FLAC file, decoded."""
    audio, _ = soundfile.read(io.BytesIO(data), dtype="float32")
    return len(audio)


def rendered(folder: Path, songs: int) -> SeparateSettings:
    """Rendered songs' true stems, cached."""
    from mixstyle.pipeline.synth.song import render_song

    for seed in range(songs):
        for name, stem in zip(STEMS, render_song(seed, 24.0).stems, strict=True):
            path = folder / "songs" / f"song {seed}" / f"{name}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, stem.T, SAMPLE_RATE)
    settings = SeparateSettings(
        data_path=folder / "songs", input="stems", stems_dir=folder / "stems", tracks_per_shard=2, clips_per_track=2
    )
    with redirect_stdout(io.StringIO()):
        separate(Settings(separate=settings))
    return settings


if __name__ == "__main__":
    typer.run(main)
