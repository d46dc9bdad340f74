"""What a clip of a bank costs: mixing, separating, encoding, disk; and whether mixing holds the network up.

    uv run python benchmarks/bank.py cache/cpu/stems                   # the shipped separator, clips of 4 s

Seconds of the processor (of a thread, or of the process) and seconds that pass are told apart: on a machine that does
other work at the same time only the former say what a clip costs, and the load average is printed beside them.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from mixstyle.cache.stem_store.shards import encode_clip
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.mix_grid import GridSettings
from mixstyle.pipeline.separation.executor import BatchExecutor
from mixstyle.pipeline.separation.separator import Precision, Separator, load_separator
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped
from mixstyle.stages.remix.bank import Mixing
from mixstyle.stages.remix.grid import GridGroups
from mixstyle.stages.remix.mixes import Group, Mix, donors_together, processed
from mixstyle.stages.separate.lstm_kernels import set_lstm_kernel
from mixstyle.stages.separate.pipeline import TrackPipeline

CPU_BANK = (18_024, 1_992)
"""Clips of the profile `cpu`'s bank: separated again, and of own mixes."""
Timed = tuple[float, float]
"""Seconds of the processor, and seconds that passed."""


def timed(work: Callable[[], object], clock: Callable[[], float]) -> Timed:
    """What a piece of work takes; clock: counts the processor's seconds."""
    start, spent = time.perf_counter(), clock()
    work()
    return clock() - spent, time.perf_counter() - start


def median(times: list[Timed]) -> Timed:
    """Of either."""
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def mixing(cache: StemCache, mixes: list[Mix], frames: int) -> dict[int, Timed]:
    """Of putting n effects on a content, by n."""
    found = {}
    contents = [donors_together(mix, cache, frames) for mix in mixes]
    for effects in range(9):
        times = []
        for place, content in enumerate(contents):
            chain = draw_chain(np.random.default_rng([effects, place]), effects)
            mix = Mix(mixes[place].donors, chain, 1.0)
            times.append(timed(lambda content=content, mix=mix: processed(content, mix), time.thread_time))
        found[effects] = median(times)
    return found


def separating(separator: Separator, audio: list[torch.Tensor], rounds: int) -> Timed:
    """Of separating a clip, as many at once as there are threads, each on one."""
    threads = usable_cores()
    frames = audio[0].shape[-1]
    grid = separator.grid(frames)
    with BatchExecutor(separator, threads, 1, 1) as executor:
        chunks = [grid.cut(index, clip, 0) for clip in audio for index in grid.touching(0, frames)]

        def run() -> None:
            for future in [executor.submit([chunk]) for chunk in chunks]:
                future.result()

        run()
        spent = median([timed(run, time.process_time) for _ in range(rounds)])
    return spent[0] / len(audio), spent[1] / len(audio)


def together(
    groups: list[Group], cache: StemCache, separator: Separator, frames: int, workers: int
) -> tuple[Timed, float]:
    """Of a clip's whole way, and the share of time that the network was at work."""
    threads = usable_cores()
    clips = sum(len(group.mixes) for group in groups)
    busy = 0.0

    def run() -> None:
        nonlocal busy
        with BatchExecutor(separator, threads, 1, 1) as executor:
            start = time.perf_counter()
            tracks: Iterator[tuple[int, Group]] = ((0, group) for group in groups)
            with TrackPipeline(tracks, Mixing(cache, frames, -60.0, workers), executor, [separator], workers) as way:
                for _ in way:
                    pass
            busy = executor.stream_s / (executor.streams * (time.perf_counter() - start))

    spent = timed(run, time.process_time)
    return (spent[0] / clips, spent[1] / clips), busy


def main(
    stems: Annotated[Path, typer.Argument(help="Cached stems.")],
    clip_s: Annotated[float, typer.Option(help="Seconds of a clip.")] = 4.0,
    clips: Annotated[int, typer.Option(help="Clips that each figure is the median of.")] = 24,
    rounds: Annotated[int, typer.Option(help="Rounds of the network.")] = 3,
    precision: Annotated[str, typer.Option(help="fp32 or bf16; both unless given.")] = "",
) -> None:
    """Prints a table."""
    keep_freed_memory()
    torch.set_num_threads(1)
    cache, frames = StemCache(stems), round(clip_s * SAMPLE_RATE)
    grid = GridSettings(-(-clips // 16) * 4, 4, 4, frames, own_share=0.0)
    groups = list(GridGroups(grid, cache))[: -(-clips // 4)]
    mixes = [mix for group in groups for mix in group.mixes][:clips]
    table = Table("what", "processor, s a clip", "passed, s a clip", box=None)

    def row(what: str, spent: Timed) -> None:
        table.add_row(what, f"{spent[0]:.3f}", f"{spent[1]:.3f}")

    row(
        "reading the content",
        median([timed(lambda m=m: donors_together(m, cache, frames), time.thread_time) for m in mixes]),
    )
    by_effects = mixing(cache, mixes, frames)
    for effects, spent in by_effects.items():
        row(f"mixing, {effects} effects", spent)
    mixed = [processed(donors_together(mix, cache, frames), mix) for mix in mixes]
    row("encoding", median([timed(lambda s=s: encode_clip(s), time.thread_time) for s in mixed]))
    audio = [torch.from_numpy(np.ascontiguousarray(stems.sum(0))) for stems in mixed[:8]]
    whole: dict[str, Timed] = {}
    for name in [precision] if precision else ["fp32", "bf16"]:
        for overlap in (1, 2):
            separator = _separator(name, overlap)
            row(f"separating, {name}, num_overlap {overlap}", separating(separator, audio, rounds))
            if overlap == 1:
                for workers in (1, 2):
                    spent, busy = together(groups, cache, separator, frames, workers)
                    whole[name] = spent
                    row(f"all of it, {name}, {workers} threads mix (network busy {busy:.0%})", spent)
    separator = _separator("fp32", 1)
    sizes = [len(encode_clip(part.numpy())[0]) for part in separator.separate(audio)]
    console = Console(width=110)
    console.print(table)
    console.print(f"{len(mixes)} clips of {clip_s:g} s a figure; load average {os.getloadavg()[0]:.1f}")
    console.print(f"disk: {statistics.mean(sizes) / 1e6:.2f} MB a clip, separated")
    threads = usable_cores()
    for name, spent in whole.items():
        hours = CPU_BANK[0] * spent[0] / threads / 3600
        console.print(f"the bank of `cpu` in {name} on {threads} idle cores, by the processor's seconds: {hours:.1f} h")


def _separator(precision: str, num_overlap: int) -> Separator:
    chosen: Precision = "bf16" if precision == "bf16" else "fp32"
    loaded = load_separator(shipped(SEPARATOR_CONFIG), shipped(SEPARATOR), "cpu", chosen, num_overlap=num_overlap)
    set_lstm_kernel(loaded, None)
    return loaded


if __name__ == "__main__":
    typer.run(main)
