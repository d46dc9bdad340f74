"""What a clip costs: two 10 s clips of a 4-minute track on its chunk grid, against separating all of the track.

    uv run python benchmarks/clips.py

Prints seconds, real-time factors and the ratio beside the ratio of chunks, which is what it can be at best. Both ways
run the same network on the same audio in one process, alternating; the median of the rounds counts.
"""

import os
import statistics
import time
from pathlib import Path

import torch
import typer

from mixstyle.pipeline.chunks import ClipRequest
from mixstyle.pipeline.separator import load_separator
from mixstyle.pipeline.song import render_song
from mixstyle.pipeline.stems import SAMPLE_RATE

FILES = Path(__file__).parent.parent / "Music-Source-Separation-Training"
CLIP = 10 * SAMPLE_RATE


def main(
    track_s: int = 240,
    rounds: int = 3,
    threads: int = 0,
    config: Path = FILES / "configs" / "scnet_tiny.yaml",
    checkpoint: Path = FILES / "scnet_tiny.safetensors",
) -> None:
    """Separates a track whole and two clips of it, in turns."""
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    separator = load_separator(config, checkpoint)
    song = torch.from_numpy(render_song(0, 40.0).stems.sum(0))
    frames = track_s * SAMPLE_RATE
    track = song.repeat(1, -(-frames // song.shape[1]))[:, :frames]
    requests = []
    for start in (frames // 3, frames - CLIP):
        first, last = separator.clip_span(frames, start, start + CLIP)
        requests.append(ClipRequest(frames, start, start + CLIP, first, track[:, first:last]))
    grid = separator.grid(frames)
    needed = sum(len(grid.touching(request.start, request.stop)) for request in requests)
    separator.separate_clips(requests[:1])  # warms up
    seconds: dict[str, list[float]] = {"whole": [], "clips": []}
    for _ in range(rounds):
        for name, work in seconds.items():
            start_s = time.perf_counter()
            if name == "whole":
                separator.separate([track])
            else:
                separator.separate_clips(requests)
            work.append(time.perf_counter() - start_s)
    whole, clips = (statistics.median(seconds[name]) for name in ("whole", "clips"))
    print(f"{separator.description}; {torch.get_num_threads()} threads, {rounds} rounds")
    print(f"whole track of {track_s} s: {grid.count} chunks, {whole:.2f} s, {track_s / whole:.1f} x real time")
    print(f"two clips of 10 s:   {needed} chunks, {clips:.2f} s")
    print(f"ratio {whole / clips:.2f}, of {grid.count / needed:.2f} that the chunks allow")


if __name__ == "__main__":
    typer.run(main)
