"""A process of benchmarks/separation.py: reads a job as JSON, separates, prints what it found as JSON."""

import json
import resource
import sys
import time
from typing import Any

import numpy as np
import torch
from plain_scnet import as_published, count_flops, separate_plainly

from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, form_of
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.executor import BatchExecutor, ChunkQueue
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.pipeline.separation.separator_checkpoint import read_separator_config, read_state_dict
from mixstyle.pipeline.separation.tuning import streams_on, tune
from mixstyle.stages.separate.lstm_kernels import set_lstm_kernel

CLIP = 10 * SAMPLE_RATE


def plain(job: dict[str, Any]) -> dict[str, Any]:
    """One chunk after the other."""
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    file, network = load(job)
    network = as_published(network).to(device)
    audio = torch.from_numpy(np.load(job["audio"])).to(device)
    autocast = job["precision"] != "fp32"
    part = warm_up_frames(file.chunk, device)
    separate_plainly(network, audio[:, :part], part, 1, autocast)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    stems = separate_plainly(network, audio, file.chunk, file.num_overlap, autocast).cpu()
    seconds = time.perf_counter() - start
    if job["stems"]:
        np.save(job["stems"], stems[[file.instruments.index(stem) for stem in STEMS]].numpy())
    step = file.chunk // file.num_overlap
    border = file.chunk - step
    frames = audio.shape[1] + (2 * border if audio.shape[1] > 2 * border else 0)
    return {"seconds": seconds, "chunks": -(-frames // step)}


def ours(job: dict[str, Any]) -> dict[str, Any]:
    """All chunks of the track, or of two clips of it, through one queue."""
    if job["keep_memory"]:
        keep_freed_memory()
    device = torch.device(job["device"])
    separator = load_separator(job["config"], job["checkpoint"], device, job["precision"])
    if job["network"] != "rearranged":
        _, network = load(job)
        network = as_published(network) if job["network"] == "published" else network
        separator.network = network.to(device)  # type: ignore[assignment]
    set_lstm_kernel(separator, None if job["lstm_kernel"] else "")
    per_stream, batch = job["streams"]
    streams = streams_on(device, job["threads"], per_stream)
    audio = torch.from_numpy(np.load(job["audio"]))
    frames = audio.shape[1]
    requests = [ClipRequest(frames, 0, frames, 0, audio)]
    if job["clips"]:
        requests = []
        for start in (frames // 3, frames - CLIP):
            first, last = separator.clip_span(frames, start, start + CLIP)
            requests.append(ClipRequest(frames, start, start + CLIP, first, audio[:, first:last]))
    with BatchExecutor(separator, streams, per_stream, batch) as executor:
        short = audio[:, : warm_up_frames(separator.chunk_frames, device)]
        for future in [executor.submit([short] * batch) for _ in range(streams)]:
            future.result()
        start = time.perf_counter()
        queue = ChunkQueue(executor)
        queue.put(0, requests)
        stems = [clip for group in queue.finished(wait=True) for clip in group.stems]
        seconds = time.perf_counter() - start
    if job["stems"]:
        np.save(job["stems"], stems[0].numpy())
    chunks = {i for r in requests for i in separator.grid(frames).touching(r.start, r.stop)}
    used = [streams, per_stream, batch]
    return {"seconds": seconds, "chunks": len(chunks), "used": used}


def warm_up_frames(chunk: int, device: torch.device) -> int:
    """Of what goes through the network before it is timed: on a GPU, algorithms are chosen for each size and thread."""
    return chunk if device.type == "cuda" else chunk // 8


def tuned(job: dict[str, Any]) -> dict[str, Any]:
    """What tuning finds, in a process of its own: it tries batches that need more memory than what it takes."""
    keep_freed_memory()
    separator = load_separator(job["config"], job["checkpoint"], job["device"], job["precision"])
    set_lstm_kernel(separator, None)
    tuning = tune(separator, job["threads"])
    return {"streams": [tuning.threads_per_stream, tuning.batch_chunks], "tried": tuning.chunk_s}


def floor(job: dict[str, Any]) -> dict[str, Any]:
    """Matrix work of a chunk, and how fast this machine multiplies matrices."""
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    file, network = load(job)
    chunk_flops = count_flops(network.eval(), file.chunk)  # as ours computes it: each fusion convolves once
    size = 8192 if device.type == "cuda" else 2048
    rates = {}
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        if name == "fp16" and device.type == "cpu":
            continue
        a = torch.randn(size, size, device=device).to(dtype)
        b = torch.randn(size, size, device=device).to(dtype)
        best = float("inf")
        for _ in range(6):
            start = time.perf_counter()
            (a @ b)[0, 0].item()
            best = min(best, time.perf_counter() - start)
        rates[name] = 2 * size**3 / best
    return {"chunk_flops": chunk_flops, "flops_s": rates}


def load(job: dict[str, Any]) -> tuple[Any, SCNet]:
    file = read_separator_config(job["config"])
    state = read_state_dict(job["checkpoint"])
    network = SCNet(file.model, form_of(state))
    network.load_state_dict(state)
    return file, network.eval()


def main() -> None:
    job = json.loads(sys.stdin.read())
    found = {"plain": plain, "ours": ours, "tuned": tuned, "floor": floor}[job["way"]](job)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if job["device"].startswith("cuda"):
        peak = torch.cuda.max_memory_allocated(job["device"])
    print(json.dumps({**found, "peak_bytes": peak}))


if __name__ == "__main__":
    main()
