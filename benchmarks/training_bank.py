"""A training step from a remix bank: with its loader against the same step with its data ready.

    uv run python benchmarks/training.py --config cpu     # after separate, remix and features

The bank's clips are read as spectrograms that were kept (`train.keep_mels`), and as stems. The ways take turns; of each
round the first three steps do not count, which fill the loader's queue. What an item costs in a worker and what putting
items together costs are measured alone, in one thread.
"""

import os
import statistics
import time
from collections.abc import Iterator
from itertools import repeat

import torch
from rich.console import Console
from rich.table import Table

from mixstyle.stages.features.described_stems import open_described_bank
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.data import Batch, load_batches
from mixstyle.stages.train.grid import BankItems, BlockReader
from mixstyle.stages.train.mels import kept_mels
from mixstyle.stages.train.setup import bank_datasets, head_of, new_encoder, shapes
from mixstyle.stages.train.step import Stepper

FIRST = 3
"""Steps of a round that do not count."""
ITEMS = 10
"""That are made alone."""


def measure_bank(settings: Settings, steps: int, rounds: int) -> None:
    """Measures and prints."""
    options = settings.train
    sources = _sources(settings)
    stepper, optimizer = _stepper(settings)
    print(
        f"{options.batch_size} groups, {options.batch_size * sources['spectrograms'].slots} clips, channels "
        f"{list(options.channels)}, {options.precision}, {options.workers} workers, {torch.get_num_threads()} threads, "
        f"{steps} steps, {rounds} rounds, torch {torch.__version__}, load average {os.getloadavg()[0]:.0f}"
    )
    batches = {name: next(load_batches(BlockReader(data), [(0, 0)], 0)) for name, data in sources.items()}
    found: dict[str, list[tuple[float, float, float]]] = {}
    for turn in range(rounds):
        for name, data in sources.items():
            keys = [(turn, step) for step in range(steps + FIRST)]
            for way, fed in (
                (f"{name}, data at hand", iter(repeat(batches[name]))),
                (f"{name}, with its loader", load_batches(BlockReader(data), keys, options.workers)),
            ):
                found.setdefault(way, []).append(_measured(stepper, optimizer, fed, steps))
    _show(found)
    for name, data in sources.items():
        item_s, collate_s = _alone(data)
        ratio = _median(found[f"{name}, with its loader"], 0) / _median(found[f"{name}, data at hand"], 0)
        print(f"{name}: an item takes {1e3 * item_s:.1f} ms, putting a batch together {1e3 * collate_s:.1f} ms")
        print(f"{name}: a step takes {ratio:.2f} times what it would if its data were ready")


def _sources(settings: Settings) -> dict[str, BankItems]:
    """The bank's items both ways; spectrograms that are missing are made."""
    options = settings.train
    cache, store = open_described_bank(settings)
    mel, _ = shapes(options, len(store.names), cache)
    mels = kept_mels(options, cache, store, mel, fill=True)
    return {
        "spectrograms": bank_datasets(options, cache, store, True, mels)[0],
        "stems": bank_datasets(options, cache, store, True, None)[0],
    }


def _stepper(settings: Settings) -> tuple[Stepper, torch.optim.Optimizer]:
    options = settings.train
    cache, store = open_described_bank(settings)
    mel, config = shapes(options, len(store.names), cache)
    encoder = new_encoder(config, store, 0).train()
    stepper = Stepper(encoder, mel, head_of(options), options, torch.device("cpu"))
    return stepper, torch.optim.AdamW(encoder.parameters(), lr=options.learning_rate)


def _measured(
    stepper: Stepper, optimizer: torch.optim.Optimizer, batches: Iterator[Batch], steps: int
) -> tuple[float, float, float]:
    """Means of a step's seconds, of those that it waited for data, and of this process' processor seconds."""
    took, waited, cpu = [], [], []
    for step in range(steps + FIRST):
        start, start_cpu = time.perf_counter(), time.process_time()
        batch = next(batches)
        there = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        stepper.gradients(batch, step)
        optimizer.step()
        if step >= FIRST:
            took.append(time.perf_counter() - start)
            waited.append(there - start)
            cpu.append(time.process_time() - start_cpu)
    return statistics.mean(took), statistics.mean(waited), statistics.mean(cpu)


def _alone(data: BankItems) -> tuple[float, float]:
    """Seconds of an item, and of a batch's collation."""
    reader = BlockReader(data)
    requests = [reader.request((9, 0, item)) for item in range(data.batch_size)]
    start = time.perf_counter()
    items = [data[request] for request in requests[:ITEMS]]
    item_s = (time.perf_counter() - start) / len(items)
    items += [data[request] for request in requests[ITEMS:]]
    start = time.perf_counter()
    data.collate(9, 0, items)
    return item_s, time.perf_counter() - start


def _median(turns: list[tuple[float, float, float]], place: int) -> float:
    return statistics.median(turn[place] for turn in turns)


def _show(found: dict[str, list[tuple[float, float, float]]]) -> None:
    table = Table("way", title="medians of the rounds")
    for column in ("s a step", "waiting for data, s", "of this process' processor, s"):
        table.add_column(column, justify="right")
    for name, turns in found.items():
        table.add_row(name, *(f"{_median(turns, place):.3f}" for place in range(3)))
    Console(width=110).print(table)
