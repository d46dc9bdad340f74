"""Parts of benchmarks/gpu.py about networks: separation of whole tracks, and whether CUDA graphs pay."""

import gc
import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import separation as benchmark
import separation_worker as worker
import torch
from gpu_run import Run

from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.stages.common.assets import SEPARATOR, SEPARATOR_CONFIG, shipped

CHUNKS = {"tiny": 0, "small": 0, "xl": 24}
"""Of the track that is measured; 0 for 4 minutes."""


def separation(run: Run) -> None:
    """The plain way (in fp32, and under autocast as MSST has it) beside ours, of a whole track."""
    if not run.quick:
        size = replace(benchmark.SIZES[run.part], chunks=CHUNKS[run.part], clips=False)
        benchmark.SIZES[run.part] = size
    with tempfile.TemporaryDirectory() as temporary:
        made = benchmark.Benchmark(Path(temporary), run.part, run.music, usable_cores(), run.device, run.quick)
        ways = {"plain fp32": made.job("plain", stems="plain.npy")}
        if run.on_gpu:
            ways["plain autocast fp16"] = made.job("plain", precision="fp16")
        for precision in ("fp32", *run.reduced):
            ways[f"ours {precision}"] = made.job("ours", precision=precision, stems=f"{precision}.npy")
        peak_gb: dict[str, float] = {}
        used: dict[str, list[int]] = {}
        found_chunks: dict[str, int] = {}
        least_db: dict[str, float] = {}

        def way(name: str, job: Any) -> float:
            words = asdict(job)
            if job.way == "ours":
                if name not in used:
                    used[name] = worker.tuned(words)["streams"]
                    run.tell(f"{name}: chunks in a batch", used[name][1])
                words["streams"] = used[name]
            if run.on_gpu:
                gc.collect()  # networks of earlier ways, which hold each other
                torch.cuda.empty_cache()  # the worker warms up, so that its memory is there again
                torch.cuda.reset_peak_memory_stats()
            result = (worker.ours if job.way == "ours" else worker.plain)(words)
            found_chunks[name] = result["chunks"]
            peak_gb[name] = torch.cuda.max_memory_allocated() / 1e9 if run.on_gpu else 0.0
            return result["seconds"] / result["chunks"]

        def told(medians: dict[str, float]) -> None:
            step_s = made.chunk // made.overlap / benchmark.SAMPLE_RATE
            for name, chunk_s in medians.items():
                run.tell(f"{name}: a chunk", 1e3 * chunk_s, "ms")
                run.tell(f"{name}: rate", step_s / chunk_s, "x real time")
                for other in ("plain fp32", "plain autocast fp16"):
                    if other in medians and other != name:
                        run.tell(f"{name}: against {other}", medians[other] / chunk_s, "times as fast")
                if run.on_gpu:
                    run.tell(f"{name}: peak of GPU memory", peak_gb[name], "GB")
            for precision in ("fp32", *run.reduced):
                both = f"ours {precision}" in medians and "plain fp32" in medians
                if both and precision not in least_db:  # it takes seconds, and rounds give equal stems
                    least_db[precision] = min(made.accuracy(f"{precision}.npy"))
                    named = f"ours {precision}: SI-SDR to plain fp32, least of the stems"
                    run.tell(named, least_db[precision], "dB")

        run.in_turns({name: lambda name=name, job=job: way(name, job) for name, job in ways.items()}, told)
        run.tell("chunks of the measured track", found_chunks.get("plain fp32", 0))


def graphs(run: Run) -> None:
    """Whether CUDA graphs pay: a chunk of the shipped separator, and the encoder forward and back."""
    if not run.on_gpu:
        run.tell("CUDA graphs", "need a GPU")
        return
    ways: dict[str, Callable[[], float]] = {}
    separator = load_separator(shipped(SEPARATOR_CONFIG), shipped(SEPARATOR), run.device, "bf16")
    for batch in (1, 8):
        chunks = 0.1 * torch.randn(batch, 2, separator.chunk_frames, device=run.device)
        ways[f"separator, batch {batch}, as now"] = run.timed(_inferring(separator.network, chunks), 5)
        ways[f"separator, batch {batch}, CUDA graph"] = _once_made(run, lambda c=chunks: _graph(separator.network, c))
    mel = torch.randn(72, 8, 128, 1723, device=run.device)
    values = torch.randn(72, len(DESCRIPTORS), device=run.device)

    def training(form: Any, graphed: bool) -> Callable[[], object]:
        torch.manual_seed(0)
        encoder = Encoder(EncoderConfig(n_descriptors=len(DESCRIPTORS))).to(run.device).train()
        encoder.form = form
        called: Any = torch.cuda.make_graphed_callables(encoder, (mel, values)) if graphed else encoder
        return lambda: called(mel, values).square().sum().backward()

    for form in ("grouped", "channels_last"):
        ways[f"encoder, 72 clips, fp32, {form}, as now"] = run.timed(training(form, False), 3)
        ways[f"encoder, 72 clips, fp32, {form}, CUDA graph"] = _once_made(run, lambda f=form: training(f, True))

    def told(medians: dict[str, float]) -> None:
        for name, seconds in medians.items():
            run.tell(name, 1e3 * seconds, "ms")

    run.in_turns(ways, told)


def _once_made(run: Run, make: Callable[[], Callable[[], object]]) -> Callable[[], float]:
    """As `Run.timed`, of what is made at its first call: a capture that fails then fails alone."""
    made: list[Callable[[], float]] = []

    def seconds() -> float:
        if not made:
            made.append(run.timed(make(), 3))
        return made[0]()

    return seconds


def _inferring(network: Any, chunks: Any) -> Callable[[], object]:
    def infer() -> object:
        with torch.inference_mode():
            return network(chunks)

    return infer


def _graph(network: Any, chunks: Any) -> Callable[[], object]:
    """Captures a pass of a network; gives what replays it."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(side):
        for _ in range(3):
            network(chunks)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        network(chunks)
    return graph.replay
