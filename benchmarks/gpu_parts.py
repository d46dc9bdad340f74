"""A part of benchmarks/gpu.py, in a process of its own. Its only argument is JSON: the part, the device, a file for the
figures and how many seconds there are."""

import importlib
import json
import platform
import subprocess
import sys

import torch
from gpu_run import ROOT, Run

from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.compute import describe as describe_by_torch
from mixstyle.stages.common.descriptor_kernel import describe, descriptor_kernel


def machine(run: Run) -> None:
    """What it is, and the rate of large matrix products."""
    from separation import processor

    run.tell("processor", f"{processor()}, {usable_cores()} cores")
    run.tell("Python, torch", f"{platform.python_version()}, {torch.__version__}")
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    run.tell("TF32 in matrix products, in cuDNN", f"{tf32[0]}, {tf32[1]}")
    if run.on_gpu:
        properties = torch.cuda.get_device_properties(run.device)
        run.tell("GPU", f"{properties.name}, {properties.total_memory / 1e9:.0f} GB, CUDA {torch.version.cuda}")
    size = 512 if run.quick else 8192
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    for name in ("fp32", *run.reduced):
        a, b = (torch.randn(size, size, device=run.device).to(kinds[name]) for _ in range(2))
        work = run.timed(lambda a=a, b=b: a @ b, 3)
        work()
        run.tell(f"matrix product of {size}, {name}", 2 * size**3 / work() / 1e12, "TFLOP/s")


def tests(run: Run) -> None:
    """`tests/gpu`: what must be true there."""
    words = [sys.executable, "-m", "pytest", "-q", "-o", "addopts=", "-p", "no:cacheprovider", "tests/gpu"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    print(result.stdout[-4000:], result.stderr[-2000:])
    lines = result.stdout.strip().splitlines()
    run.tell("pytest tests/gpu", lines[-1].strip("= ") if lines else "printed nothing")
    if result.returncode not in (0, 5):
        raise SystemExit(f"pytest: exit status {result.returncode}")


def descriptors(run: Run) -> None:
    """Clips of 10 s: on the device in batches, and by the CPU's kernel or torch's code on one thread."""
    frames = (1 if run.quick else 10) * SAMPLE_RATE
    sizes = (1, 2) if run.quick else (1, 8, 72)
    stems = 0.1 * torch.randn(max(sizes), 4, 2, frames)
    there = stems.to(run.device)
    torch.set_num_threads(1)
    one = "the kernel" if descriptor_kernel() is not None else "torch's code"
    ways = {f"device, batch {n}": (n, run.timed(lambda n=n: describe_by_torch(there[:n]))) for n in sizes}
    ways[f"CPU, 1 thread, {one}"] = 1, run.timed(lambda: describe(stems[:1]))

    def told(medians: dict[str, float]) -> None:
        for name, seconds in medians.items():
            run.tell(f"{name}: a clip of {frames // SAMPLE_RATE} s", 1e3 * seconds / ways[name][0], "ms")

    run.in_turns({name: way for name, (_, way) in ways.items()}, told)
    off = (describe_by_torch(there[:1]).cpu() - describe_by_torch(stems[:1])).abs().max().item()
    run.tell("device against CPU, torch's code", off, "units of the descriptors")


PARTS = {
    "machine": ("gpu_parts", "machine"),
    "tiny": ("gpu_separation", "separation"),
    "small": ("gpu_separation", "separation"),
    "xl": ("gpu_separation", "separation"),
    "step": ("gpu_training", "step"),
    "tests": ("gpu_parts", "tests"),
    "descriptors": ("gpu_parts", "descriptors"),
    "loader": ("gpu_training", "loader"),
    "graphs": ("gpu_separation", "graphs"),
}
"""Module and function of each; what one module needs and lacks does not stop the parts of another."""


if __name__ == "__main__":
    words = json.loads(sys.argv[1])
    module, function = PARTS[words["part"]]
    getattr(importlib.import_module(module), function)(Run(words))
