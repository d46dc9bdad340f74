"""Parts of benchmarks/gpu.py about training: a whole step of the profile `fma`, and whether its loader keeps up."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import soundfile
import torch
import training
from gpu_run import ROOT, Run
from separation import Benchmark

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.encoder.encoder import Encoder, Form
from mixstyle.stages.common.descriptor_kernel import describe
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import load_settings
from mixstyle.stages.train.data import Batch, load_batches
from mixstyle.stages.train.readers import RandomReader
from mixstyle.stages.train.setup import datasets, head_of, shapes
from mixstyle.stages.train.step import Stepper

PROFILE = str(ROOT / "configs" / "fma.yaml")
FORMS: tuple[Form, ...] = ("loop", "grouped", "channels_last")


def step(run: Run) -> None:
    """A whole step of the profile `fma` on made-up stems, and its pieces."""
    small = ["train.batch_size=2", "train.clip_duration_s=2.0"] if run.quick else []
    base = load_settings(PROFILE, small).train
    frames, items = round(base.clip_duration_s * SAMPLE_RATE), base.batch_size
    stems = 0.1 * torch.randn(3 * items, 4, 2, frames)
    stems[..., 1:] += 0.9 * stems[..., :-1]  # not white
    there = stems.to(run.device)
    described = describe(there[: 2 * items]).cpu()
    descriptors = torch.cat([described, torch.full((items, len(DESCRIPTORS)), float("nan"))])
    all_there = torch.cat([described, described[:items]])
    named = tuple(str(i) for i in range(items))
    device = torch.device(run.device)

    def stepping(form: Form | None, precision: str, given: torch.Tensor, values: torch.Tensor) -> Callable[[], float]:
        options = load_settings(PROFILE, [*small, f"train.precision={precision}"]).train
        mel, config = shapes(options, len(DESCRIPTORS), cast(Any, SimpleNamespace(clip_frames=frames)))
        torch.manual_seed(0)
        encoder = Encoder(config).to(device).train()
        encoder.form = form
        encoder.set_descriptor_statistics(described.mean(0), described.std(0))
        stepper = Stepper(encoder, mel.to(device), head_of(options), options, device)
        optimizer = torch.optim.AdamW(encoder.parameters(), lr=options.learning_rate)
        batch = Batch(0, 0, frames, named, given, values)

        def one() -> None:
            optimizer.zero_grad(set_to_none=True)
            stepper.gradients(batch, 0)
            optimizer.step()

        return run.timed(one, 1 if run.quick else 5)

    mel = shapes(base, len(DESCRIPTORS), cast(Any, SimpleNamespace(clip_frames=frames)))[0].to(device)
    ways = {
        "the stems to the device, as the loader gives them": run.timed(lambda: stems.to(device)),
        "describing the negatives": run.timed(lambda: describe(there[:items])),
        "spectrograms": run.timed(lambda: mel(there)),
    }
    precisions = ("fp32", *run.reduced[:1])
    for precision in precisions:
        ways[f"whole step: copy, negatives described, {precision}"] = stepping(None, precision, stems, descriptors)
    if run.on_gpu:
        pinned = stems.pin_memory()
        ways["the stems to the device, pinned"] = run.timed(lambda: pinned.to(device, non_blocking=True))
    for precision in precisions:
        for form in FORMS:
            ways[f"step, data on the device, {form}, {precision}"] = stepping(form, precision, there, all_there)
    run.tell("a step", f"{items} tracks x 3 clips of {base.clip_duration_s:g} s, channels {list(base.channels)}")

    def told(medians: dict[str, float]) -> None:
        for name, seconds in medians.items():
            run.tell(name, 1e3 * seconds, "ms")

    run.in_turns(ways, told)
    if run.on_gpu:
        run.tell("peak of GPU memory, all ways together", torch.cuda.max_memory_allocated() / 1e9, "GB")


def loader(run: Run) -> None:
    """Steps of the profile `fma` with their loader, on stems that are cached first: whether its workers keep up."""
    songs, clip_s = (4, 2.0) if run.quick else (30, 10.0)
    rng = np.random.default_rng(0)
    source = Benchmark.audio(run.music, round(2.2 * clip_s * SAMPLE_RATE))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for song in range(songs):
            for stem in STEMS:
                path = folder / "songs" / str(song) / f"{stem}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                audio = np.roll(source, rng.integers(source.shape[1]), axis=1) * rng.uniform(0.1, 0.5)
                soundfile.write(path, audio.T, SAMPLE_RATE, "PCM_16")
        words = [
            f"separate.data_path={folder / 'songs'}",
            f"separate.stems_dir={folder / 'stems'}",
            f"features.features_path={folder / 'features.zarr'}",
            "separate.input=stems",
            f"separate.clip_s={clip_s}",
            f"train.clip_duration_s={clip_s}",
            "separate.validation_fraction=0",
            "separate.test_fraction=0",
            "separate.device=cpu",
            "features.device=cpu",
            *(["train.batch_size=2", "train.workers=1"] if run.quick else []),
        ]
        settings = load_settings(PROFILE, words)
        start = time.monotonic()
        separate(settings)
        features(settings)
        run.tell("stems and descriptors, made first on the CPU", time.monotonic() - start, "s")
        cache, store = open_described_stems(settings)
        data, _ = datasets(settings.train, cache, store, describe_here=not run.on_gpu)
        steps = 1 if run.quick else 6
        kept: list[Batch] = []

        def fed() -> Iterator[Batch]:
            for batch in load_batches(RandomReader(data), ((0, k) for k in range(steps + 3)), settings.train.workers):
                kept[:] = [batch]
                yield batch

        precision = (*run.reduced, "fp32")[0]

        def measure(name: str, batches: Iterator[Batch]) -> None:
            stepper, optimizer = training.stepper_of(settings, cache, None, precision, torch.device(run.device))
            step_s, waited = training.measured(stepper, optimizer, batches, steps)
            run.tell(f"a step, {precision}, {name}", step_s, "s")
            run.tell(f"a step, {precision}, {name}: waiting for data", 100 * waited, "%")

        measure(f"with its loader ({settings.train.workers} workers)", fed())
        measure("data at hand", training.repeated(kept[0]))
