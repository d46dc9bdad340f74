"""Separation side by side: the plain way, ours for whole tracks, ours for clips.

    uv run python benchmarks/separation.py                         # the shipped separator, 4 minutes
    uv run python benchmarks/separation.py --size small --size xl  # random weights, fewer chunks
    uv run python benchmarks/separation.py --music song.flac       # SI-SDR on real music

Every way separates the same audio with the same checkpoint and num_overlap, each in a process of its own (the plain
one with the C library as it is), in turns; medians of the rounds count. The plain way is one track at a time, chunk
after chunk in fp32, all threads in one chunk (`benchmarks/plain_scnet.py`). Where a size would take long, the track is
shorter: seconds a chunk are measured, and those of a 4-minute track extrapolated from them, which the table says.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
import yaml
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file

from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet, SCNetConfig
from mixstyle.pipeline.synth.song import render_song

FILES = Path(__file__).parent.parent / "Music-Source-Separation-Training"
TRACK_S = 240
CLIP = 10 * SAMPLE_RATE
WORKER = Path(__file__).with_name("separation_worker.py")


@dataclass(frozen=True)
class Size:
    """A separator to measure. chunks: of the track that is measured, 0 for 4 minutes. clips: whether those too."""

    model: dict[str, Any] = field(default_factory=dict)
    masked: bool = True
    chunks: int = 0
    clips: bool = True


SIZES = {
    "tiny": Size(),
    "small": Size({"dims": [4, 32, 64, 128]}, masked=False, chunks=6),
    "xl": Size(
        {
            "dims": [4, 64, 128, 256],
            "band_SR": [0.230, 0.370, 0.400],
            "band_stride": [1, 4, 4],
            "band_kernel": [3, 4, 4],
            "conv_depths": [3, 3, 3],
            "num_dplayer": 8,
        },
        chunks=2,
        clips=False,
    ),
}
"""The shipped separator; SCNet small as it was published; SCNet Masked XL IHF."""


@dataclass(frozen=True)
class Job:
    """What a worker measures. precision: of ours; of the plain way `autocast` is possible on a GPU."""

    way: str
    config: str
    checkpoint: str
    audio: str
    device: str
    threads: int
    precision: str = "fp32"
    stems: str = ""
    """Where the stems go, to be compared; empty for nowhere."""
    clips: bool = False
    streams: tuple[int, int] = (0, 0)
    """Threads a stream and chunks a batch, as tuning found."""
    network: str = "rearranged"
    """Of ours: published, module (each fusion convolves once) or rearranged."""
    keep_memory: bool = True
    lstm_kernel: bool = True
    """Of ours: whether LSTMs may run on the kernel that is built here."""


def main(
    size: Annotated[list[str] | None, typer.Option(help="tiny, small, xl; may be repeated.")] = None,
    music: Annotated[Path | None, typer.Option(help="A file of real music; rendered music unless given.")] = None,
    rounds: int = 3,
    threads: int = 0,
    device: str = "cpu",
    quick: Annotated[bool, typer.Option(help="A few seconds of the shipped separator, to see it work.")] = False,
    floor: Annotated[bool, typer.Option(help="Measure the matrix multiplications, too.")] = True,
    steps: Annotated[bool, typer.Option(help="What each change gave, instead; on a CPU.")] = False,
    results: Annotated[Path | None, typer.Option(help="A JSON file for the figures.")] = None,
) -> None:
    """Measures and prints tables."""
    threads = threads or usable_cores()
    console = Console(width=150) if not sys.stdout.isatty() else Console()
    console.print(f"{processor()}, {threads} threads, device {device}, torch {torch.__version__}, {rounds} rounds")
    found = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ["tiny"] if quick else size or ["tiny"]:
            measured = Benchmark(Path(temporary), name, music, threads, device, quick)
            if steps:
                measured.print_steps(console, rounds)
                continue
            found[name] = measured.run(1 if quick else rounds, floor)
            measured.print(console, found[name])
    if results is not None:
        results.write_text(json.dumps(found, indent=1))


class Benchmark:
    """All ways with one separator."""

    def __init__(self, folder: Path, name: str, music: Path | None, threads: int, device: str, quick: bool) -> None:
        self.name, self.size, self.threads, self.device, self.folder = name, SIZES[name], threads, device, folder
        self.config, self.checkpoint = self._separator()
        content = yaml.safe_load(self.config.read_text())
        self.chunk, self.overlap = content["audio"]["chunk_size"], content["inference"]["num_overlap"]
        step = self.chunk // self.overlap
        border = self.chunk - step
        frames = (10 if quick else TRACK_S) * SAMPLE_RATE
        if self.size.chunks:
            frames = step * self.size.chunks
            frames -= 0 if frames <= 2 * border else 2 * border
        self.frames = frames
        self.track_chunks = -(-(TRACK_S * SAMPLE_RATE + 2 * border) // step)
        """Chunks of a whole track of 4 minutes."""
        self.clips = self.size.clips and not quick
        audio = self.audio(music, max(frames, TRACK_S * SAMPLE_RATE if self.clips else frames))
        np.save(folder / "long.npy", audio)
        np.save(folder / "whole.npy", audio[:, :frames])

    def run(self, rounds: int, floor: bool) -> dict[str, Any]:
        """Measures all ways in turns."""
        on_gpu = self.device.startswith("cuda")
        reduced = "fp16" if on_gpu else "bf16"
        ways: dict[str, Job] = {"plain fp32": self.job("plain", stems="plain.npy")}
        if on_gpu:
            ways["plain autocast"] = self.job("plain", precision="fp16")
        for precision in ("fp32", reduced):
            ways[f"ours {precision}"] = self.job("ours", precision=precision, stems=f"{precision}.npy")
        if not on_gpu:
            ways["ours bf16, torch's LSTMs"] = replace(self.job("ours", precision="bf16"), lstm_kernel=False)
        if self.clips:
            for precision in ("fp32", reduced):
                ways[f"ours {precision}, clips"] = self.job("ours", precision=precision, clips=True)
        tuned = {precision: work(self.job("tuned", precision=precision)) for precision in ("fp32", reduced)}
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, job in ways.items():
                measured[name].append(work(job, tuned[job.precision]["streams"] if job.way == "ours" else (0, 0)))
        found: dict[str, Any] = {
            name: {
                **turns[0],
                "chunk_s": statistics.median(turn["seconds"] / turn["chunks"] for turn in turns),
                "seconds": statistics.median(turn["seconds"] for turn in turns),
                "all_seconds": [round(turn["seconds"], 3) for turn in turns],
                "peak_gb": max(turn["peak_bytes"] for turn in turns) / 1e9,
            }
            for name, turns in measured.items()
        }
        for precision in ("fp32", reduced):
            found[f"ours {precision}"]["si_sdr_db"] = self.accuracy(f"{precision}.npy")
        if floor:
            found["floor"] = work(self.job("floor"))
        return found

    def print(self, console: Console, found: dict[str, Any]) -> None:
        """Tables of what was found."""
        plain = found["plain fp32"]
        random = "" if self.name == "tiny" else ", random weights"
        short = self.frames != TRACK_S * SAMPLE_RATE
        extrapolated = f"; extrapolated from {plain['chunks']} chunks" if short else ""
        table = Table(title=f"SCNet {self.name}{random}: chunks of {self.chunk / SAMPLE_RATE:.0f} s{extrapolated}")
        for column in ("way", "s a chunk", "4 min, s", "x real time", "against plain", "streams, batch", "peak GB"):
            table.add_column(column, justify="left" if column in ("way", "streams, batch") else "right")
        table.add_column("SI-SDR to plain fp32, dB: least (median)", justify="right")
        whole_s = plain["chunk_s"] * self.track_chunks
        for name, way in found.items():
            if name == "floor":
                continue
            clips = "clips" in name
            track_s = way["seconds"] if clips else way["chunk_s"] * self.track_chunks
            streams = f"{way['used'][0]} x {way['used'][1]} threads, {way['used'][2]}" if "used" in way else ""
            sdr = way.get("si_sdr_db")
            table.add_row(
                f"{name} ({way['chunks']} chunks)" if clips else name,
                f"{way['chunk_s']:.3f}",
                f"{track_s:.1f}",
                f"{(20 if clips else TRACK_S) / track_s:.1f}",
                f"{whole_s / track_s:.2f}",
                streams,
                f"{way['peak_gb']:.2f}",
                f"{min(sdr):.1f} ({statistics.median(sdr):.1f})" if sdr else "",
            )
        console.print(table)
        for name, way in found.items():
            if "clips" in name:
                speed = plain["chunk_s"] / found[name.removesuffix(", clips")]["chunk_s"]
                saved = self.track_chunks / way["chunks"]
                ratio = whole_s / way["seconds"]
                console.print(
                    f"{name}: {self.track_chunks} / {way['chunks']} chunks x {speed:.2f} = {saved * speed:.1f} "
                    f"possible, {ratio:.1f} reached: {ratio / saved / speed:.0%}"
                )
        if "floor" in found:
            self._print_floor(console, found)

    def print_steps(self, console: Console, rounds: int) -> None:
        """Seconds a chunk with one change after the other, and with larger batches: 8 chunks side by side."""
        content = yaml.safe_load(self.config.read_text())
        content["inference"]["num_overlap"] = 1
        self.config = self.folder / "apart.yaml"
        self.config.write_text(yaml.safe_dump(content))
        audio = np.load(self.folder / "whole.npy")
        np.save(
            self.folder / "whole.npy", np.tile(audio, (1, -(-8 * self.chunk // audio.shape[1])))[:, : 8 * self.chunk]
        )
        both, one = (self.threads, 1), (1, 1)
        ways: dict[str, dict[str, Any]] = {
            "published layers, one chunk on all threads": {
                "network": "published",
                "keep_memory": False,
                "streams": both,
            },
            "each fusion convolves once": {"network": "module", "keep_memory": False, "streams": both},
            "freed memory is kept": {"network": "module", "streams": both},
            "one layout, folded norms, LSTMs without copies": {"streams": both},
            "a stream a thread": {"streams": one},
            "bf16": {"streams": one, "precision": "bf16", "lstm_kernel": False},
            "LSTMs, their norms and linear layers by the kernel": {"streams": one, "precision": "bf16"},
            "batch of 4 on all threads, published layers": {
                "network": "published",
                "keep_memory": False,
                "streams": (self.threads, 4),
            },
            "the same with freed memory kept": {"network": "published", "streams": (self.threads, 4)},
            "batch of 4, a stream a thread, bf16, all changes": {"streams": (1, 4), "precision": "bf16"},
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, options in ways.items():
                job = replace(self.job("ours"), **{key: options[key] for key in options if key != "streams"})
                turn = work(job, options["streams"])
                seconds[name].append(turn["seconds"] / turn["chunks"])
        table = Table("change", title=f"SCNet {self.name}: one change after the other")
        table.add_column("s a chunk", justify="right")
        table.add_column("against the first", justify="right")
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        first = next(iter(medians.values()))
        for name, value in medians.items():
            table.add_row(name, f"{value:.3f}", f"{first / value:.2f}")
        console.print(table)

    def _print_floor(self, console: Console, found: dict[str, Any]) -> None:
        floor = found["floor"]
        console.print(f"matrix work of a chunk: {floor['chunk_flops'] / 1e9:.0f} GFLOP (a multiply-add is two)")
        for precision, rate in floor["flops_s"].items():
            if f"ours {precision}" in found:
                least_s = floor["chunk_flops"] / rate
                ours = found[f"ours {precision}"]["chunk_s"]
                console.print(
                    f"{precision}: {rate / 1e9:.0f} GFLOP/s in matrix products: {least_s:.3f} s a chunk at least; "
                    f"ours takes {ours / least_s:.2f} times that"
                )

    def job(self, way: str, precision: str = "fp32", stems: str = "", clips: bool = False) -> Job:
        """What a worker does."""
        audio = "long.npy" if clips else "whole.npy"
        return Job(
            way,
            str(self.config),
            str(self.checkpoint),
            str(self.folder / audio),
            self.device,
            self.threads,
            precision,
            str(self.folder / stems) if stems else "",
            clips,
        )

    def accuracy(self, name: str) -> list[float]:
        """SI-SDR in dB against the plain way, of each stem within 40 dB of the mix."""
        mix_db = level_db(np.load(self.folder / "whole.npy"))
        plain, ours = np.load(self.folder / "plain.npy"), np.load(self.folder / name)
        return [si_sdr_db(p, o) for p, o in zip(plain, ours, strict=True) if level_db(p) > mix_db - 40]

    def _separator(self) -> tuple[Path, Path]:
        if not self.size.model:
            return FILES / "configs" / "scnet_tiny.yaml", FILES / "scnet_tiny_2.safetensors"
        torch.manual_seed(0)
        content = yaml.safe_load((FILES / "configs" / "scnet_tiny.yaml").read_text())
        model = asdict(SCNetConfig.from_mapping(self.size.model))
        content["model"] = {key: list(value) if isinstance(value, tuple) else value for key, value in model.items()}
        content["audio"]["chunk_size"] = 485_100
        content["inference"] = {"batch_size": 1, "num_overlap": 4, "normalize": False}
        config, checkpoint = self.folder / f"{self.name}.yaml", self.folder / f"{self.name}.safetensors"
        config.write_text(yaml.safe_dump(content))
        network = SCNet(SCNetConfig.from_mapping(content["model"]), "masked" if self.size.masked else "plain")
        save_file(network.state_dict(), checkpoint)
        return config, checkpoint

    @staticmethod
    def audio(music: Path | None, frames: int) -> np.ndarray:
        """Real music, or rendered music, [2, frames] in float32; again and again, where it is shorter."""
        if music is None:
            audio = render_song(0, 40.0).stems.sum(0)
        else:
            from mixstyle.cache.music.reader import frames_at_44100, probe, read_windows

            audio = read_windows(music, [(0, frames_at_44100(probe(music)))])[0]
        return np.ascontiguousarray(np.tile(audio, (1, -(-frames // audio.shape[1])))[:, :frames], dtype=np.float32)


def work(job: Job, streams: Sequence[int] = (0, 0)) -> dict[str, Any]:
    """What a worker process finds."""
    request = json.dumps({**asdict(job), "streams": list(streams)})
    result = subprocess.run([sys.executable, str(WORKER)], input=request, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{job.way} {job.precision} failed:\n{result.stderr}")
    return json.loads(result.stdout.splitlines()[-1])


def level_db(audio: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(audio.astype(np.float64) ** 2) + 1e-20))


def si_sdr_db(reference: np.ndarray, estimate: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio (Le Roux et al., ICASSP 2019), over both channels."""
    s, e = (x.astype(np.float64).ravel() for x in (reference, estimate))
    target = s * (e @ s) / max(s @ s, 1e-20)
    noise = e - target
    return float(10 * np.log10(max(target @ target, 1e-20) / max(noise @ noise, 1e-20)))


def processor() -> str:
    """The machine's name."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = next((line for line in lines if line.startswith("flags")), "")
    has = [flag for flag in ("avx512_bf16", "amx_bf16") if f" {flag}" in flags]
    return f"{names[0] if names else 'unknown processor'} ({', '.join(has) or 'no bf16 instructions'})"


if __name__ == "__main__":
    typer.run(main)
