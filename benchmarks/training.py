"""A training step: ours, the sub-bands' other forms, and the published way of working, on the same cached clips.

    uv run python benchmarks/training.py --config cpu            # stems and descriptors of a profile
    uv run python benchmarks/training.py --config cpu --no-on-the-fly

Where the profile's objective is one for a bank (`chain-grid`), the bank's steps are measured instead, by
`benchmarks/training_bank.py`. OpenMP's threads sleep while they wait, as `mixstyle train` has them.

Steps a second and the share of a step that waited for data, as medians over steps after the first ones, which fill the
loader's queue. The ceiling is the same step with its data ready. *On the fly* is one item of the published way:
SCNet small separates both clips (random weights, the network alone, as published), every clip is described by a plain
loop, and the anchor is mixed again with a reverb in direct form; a step takes as many times that as it has items, and
the encoder's own step, which is added.
"""

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Annotated

import numpy as np
import scipy.signal
import torch
import typer
from descriptors import plain
from plain_scnet import as_published
from rich.console import Console
from rich.table import Table
from training_bank import measure_bank

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.encoder.encoder import Form
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain, draw_mix_chain
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.train.data import Batch, Items, load_batches
from mixstyle.stages.train.provenance import reads_bank
from mixstyle.stages.train.readers import RandomReader
from mixstyle.stages.train.setup import datasets, head_of, new_encoder, recipe_of, shapes
from mixstyle.stages.train.step import Stepper

IMPULSE_RESPONSE_S = 1.0
CPU = torch.device("cpu")


def main(
    config: str = "cpu",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="section.name=value")] = None,
    steps: int = 12,
    threads: Annotated[int, typer.Option(help="Of the encoder; 0 takes every core.")] = 0,
    on_the_fly: bool = True,
    rounds: Annotated[int, typer.Option(help="Of each way of a bank, in turns.")] = 3,
) -> None:
    """Measures and prints."""
    settings = load_settings(config, overrides or [])
    if threads:
        torch.set_num_threads(threads)
    if reads_bank(settings.train):
        measure_bank(settings, steps, rounds)
        return
    cache, store = open_described_stems(settings)
    data, _ = datasets(settings.train, cache, store, describe_here=True)
    options = settings.train
    print(
        f"{options.batch_size} tracks x 3 clips of {options.clip_duration_s:g} s, channels {list(options.channels)}, "
        f"{options.workers} workers, {torch.get_num_threads()} threads, {steps} steps, torch {torch.__version__}"
    )
    batch = next(load_batches(RandomReader(data), [(0, 0)], 0))
    seconds: dict[str, tuple[float, float]] = {}
    forms: tuple[Form, ...] = ("loop", "grouped", "channels_last")
    kinds: list[tuple[Form, str]] = [(form, precision) for precision in ("fp32", "bf16") for form in forms]
    fed = [kind for kind in kinds if kind == ("loop", "fp32") or kind[0] == "channels_last"]
    for form, precision, still in [*((*kind, True) for kind in kinds), *((*kind, False) for kind in fed)]:
        name = f"{form}, {precision}" + (", data at hand" if still else "")
        stepper, optimizer = stepper_of(settings, cache, form, precision)
        batches = (
            repeated(batch)
            if still
            else load_batches(RandomReader(data), ((0, k) for k in range(steps + 3)), options.workers)
        )
        seconds[name] = measured(stepper, optimizer, batches, steps)
    if on_the_fly:
        fly_s = item_on_the_fly(settings, cache, data) * options.batch_size
        seconds["on the fly, loop, fp32"] = (fly_s + seconds["loop, fp32, data at hand"][0], 0.0)
    show(seconds)


def show(seconds: dict[str, tuple[float, float]]) -> None:
    """Prints the table, and how far the way that training takes is from its ceiling."""
    table = Table("way")
    for title in ("s a step", "steps a second", "waiting for data", "against the loop in fp32"):
        table.add_column(title, justify="right")
    base = seconds["loop, fp32"][0]
    for name, (step_s, wait) in seconds.items():
        table.add_row(name, f"{step_s:.3f}", f"{1 / step_s:.3f}", f"{wait:.0%}", f"{base / step_s:.2f}")
    Console(width=110).print(table)
    for precision in ("fp32", "bf16"):
        name = f"channels_last, {precision}"
        ratio = seconds[name][0] / seconds[f"{name}, data at hand"][0]
        print(f"{precision}: a step takes {ratio:.2f} times what it would if its data were ready")
    if "on the fly, loop, fp32" in seconds:
        fly_s = seconds["on the fly, loop, fp32"][0]
        for precision in ("fp32", "bf16"):
            times = fly_s / seconds[f"channels_last, {precision}"][0]
            print(f"on the fly takes {times:.0f} times as long as ours in {precision}")


def stepper_of(
    settings: Settings, cache: StemCache, form: Form | None, precision: str, device: torch.device = CPU
) -> tuple[Stepper, torch.optim.Optimizer]:
    """A new encoder in that form, and its optimiser."""
    _, store = open_described_stems(settings)
    options = dataclasses.replace(settings.train, precision=precision)
    mel, config = shapes(options, len(store.names), cache)
    encoder = new_encoder(config, store, 0).to(device).train()
    encoder.form = form
    stepper = Stepper(encoder, mel.to(device), head_of(options), options, device)
    return stepper, torch.optim.AdamW(encoder.parameters(), lr=options.learning_rate)


def repeated(batch: Batch) -> Iterator[Batch]:
    """The same batch for ever."""
    while True:
        yield batch


def measured(
    stepper: Stepper, optimizer: torch.optim.Optimizer, batches: Iterator[Batch], steps: int
) -> tuple[float, float]:
    """Seconds a step, and the share of them that waited for data; the first three steps do not count."""
    took, waited = [], []
    for step in range(steps + 3):
        start = time.perf_counter()
        batch = next(batches)
        there = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        stepper.gradients(batch, step)
        optimizer.step()
        if stepper.device.type == "cuda":  # as the loop does, which looks at the gradients' norm
            torch.cuda.synchronize()
        if step >= 3:
            took.append(time.perf_counter() - start)
            waited.append(there - start)
    # the mean: a loader that is behind makes some steps wait and others not
    return statistics.mean(took), sum(waited) / sum(took)


def item_on_the_fly(settings: Settings, cache: StemCache, data: Items) -> float:
    """Seconds that one item takes: two separations, three descriptions and a mix chain."""
    torch.manual_seed(0)
    network = as_published(SCNet(SCNetConfig(dims=(4, 32, 64, 128)), "plain"))
    track = data.tracks[0]
    frames = data.clip_frames
    stems = [cache.read_clip(clip, 0, frames) for clip in track.clips[:2]]
    rng = np.random.default_rng(0)
    remix = draw_mix_chain(rng, recipe_of(settings.train, open_described_stems(settings)[1]).remix)
    response = rng.standard_normal(round(IMPULSE_RESPONSE_S * SAMPLE_RATE)).astype(np.float32)
    response *= np.exp(-6.9 * np.arange(response.size, dtype=np.float32) / response.size)
    start = time.perf_counter()
    with torch.inference_mode():
        for clip in stems:
            network(torch.from_numpy(clip.sum(0, keepdims=True)))
    mixed = apply_mix_chain(stems[0], dataclasses.replace(remix, stems=without_reverb(remix.stems)))
    # one channel of one stem in direct form is measured, and counts for all that get a reverb
    wet = time.perf_counter()
    scipy.signal.convolve(mixed[0, 0], response, method="direct")
    one_s = time.perf_counter() - wet
    for clip in (*stems, mixed):
        plain(clip)
    # half of the stems get a reverb, in both channels
    reverbs = 2 * len(mixed) * settings.train.aug_prob
    return time.perf_counter() - start + (reverbs - 1) * one_s


def without_reverb(chains: tuple[tuple, ...]) -> tuple[tuple, ...]:
    """The chains less their reverbs."""
    return tuple(tuple(effect for effect in chain if effect.name != "reverb") for chain in chains)


if __name__ == "__main__":
    if "OMP_WAIT_POLICY" not in os.environ:  # read when torch is loaded, so before this process
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
    typer.run(main)
