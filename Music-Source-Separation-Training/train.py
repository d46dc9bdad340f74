"""Trains the small SCNet that mixstyle ships, on songs with true stems that mixstyle renders itself.

    mixstyle demo-songs data/separator/train --songs 160 --seed 1000 --duration 40
    mixstyle demo-songs data/separator/heldout --songs 16 --seed 9000 --duration 40
    python Music-Source-Separation-Training/train.py train data/separator/train data/separator/heldout
    python Music-Source-Separation-Training/train.py evaluate data/separator/heldout

Any folders of songs with vocals, bass, drums and other in FLAC or WAV will do (MUSDB18-HQ, say). A run that was
stopped goes on from its last checkpoint; what a step draws depends on the seed and the step alone.
"""

import itertools
import json
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import soundfile
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet
from mixstyle.pipeline.separation.msst import read_separator_config
from mixstyle.pipeline.separation.separator import load_separator

HERE = Path(__file__).parent
CONFIG = HERE / "configs" / "scnet_tiny.yaml"
WEIGHTS = HERE / "scnet_tiny.safetensors"
CHECKPOINT_VERSION = 1
SNR_FLOOR = 1e-3
"""Errors 30 dB below stem or mixture count as none: Wisdom et al., "Unsupervised Sound Separation Using Mixture
Invariant Training", NeurIPS 2020, eq. 2."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)


@dataclass(frozen=True)
class Song:
    """A folder with the four stems, all of `frames` samples."""

    paths: tuple[Path, ...]
    frames: int

    def read(self, stem: int, start: int, frames: int) -> np.ndarray:
        """Stem `stem` of STEMS as [2, frames]."""
        audio, _ = soundfile.read(self.paths[stem], frames, start, dtype="float32", always_2d=True)
        return audio.T if audio.shape[1] == 2 else audio.T.repeat(2, axis=0)


def find_songs(folder: Path, least_frames: int) -> list[Song]:
    """Folders below `folder` that hold all four stems at 44.1 kHz and at least that long, sorted by name."""
    songs = []
    for first in sorted([*folder.rglob("vocals.flac"), *folder.rglob("vocals.wav")]):
        paths = tuple(first.with_stem(stem) for stem in STEMS)
        if not all(path.is_file() for path in paths):
            continue
        infos = [soundfile.info(str(path)) for path in paths]
        if {info.samplerate for info in infos} == {SAMPLE_RATE} and infos[0].frames >= least_frames:
            songs.append(Song(paths, min(info.frames for info in infos)))
    if not songs:
        raise MixstyleError(f"{folder}: no folder with {', '.join(STEMS)} at 44.1 kHz; make some with demo-songs")
    return songs


def draw_item(songs: list[Song], rng: np.random.Generator, frames: int) -> np.ndarray:
    """One training item [4, 2, frames]: half are crops of one song, half stems of different songs.

    Each stem gets a gain within 6 dB, a random polarity and order of channels, and one in 16 is left out, as in the
    public recipes (Uhlich et al. 2017; Defossez et al. 2019).
    """
    one = rng.random() < 0.5
    song = songs[rng.integers(len(songs))]
    start = int(rng.integers(song.frames - frames + 1))
    stems = np.zeros((len(STEMS), 2, frames), np.float32)
    for i in range(len(STEMS)):
        if not one:
            song = songs[rng.integers(len(songs))]
            start = int(rng.integers(song.frames - frames + 1))
        audio = song.read(i, start, frames)[:: rng.choice([-1, 1])]
        gain_db = rng.uniform(-6, 6) if not one else rng.uniform(-3, 3)
        kept = rng.random() > 1 / 16
        stems[i] = audio * (rng.choice([-1, 1]) * 10 ** (gain_db / 20) * kept)
    return stems


def batches(songs: list[Song], seed: int, first: int, size: int, frames: int) -> Iterator[Tensor]:
    """Batches [B, 4, 2, frames] from step `first` on, read ahead by a thread."""

    def make(step: int) -> Tensor:
        rng = np.random.default_rng([seed, step])
        return torch.from_numpy(np.stack([draw_item(songs, rng, frames) for _ in range(size)]))

    with ThreadPoolExecutor(1) as pool:
        waiting = [pool.submit(make, first + i) for i in range(3)]
        for step in itertools.count(first + 3):
            yield waiting.pop(0).result()
            waiting.append(pool.submit(make, step))


def loss_of(estimate: Tensor, stems: Tensor) -> Tensor:
    """Thresholded negative SNR in dB, plus 10 times the waveform L1 over the mixture's RMS; both [B, 4, 2, T]."""
    mixture = stems.sum(1, keepdim=True)
    error = estimate - stems
    floor = SNR_FLOOR * mixture.square().mean((2, 3)) + 1e-8
    signal, noise = stems.square().mean((2, 3)), error.square().mean((2, 3))
    snr = 10 * torch.log10((noise + floor + SNR_FLOOR * signal) / (signal + floor))
    rms = mixture.square().mean((1, 2, 3)).sqrt() + 1e-4
    return snr.mean() + 10 * (error.abs().mean((1, 2, 3)) / rms).mean()


def si_sdr_db(estimate: Tensor, target: Tensor) -> Tensor:
    """Scale-invariant SDR in dB over all but the first axes (Le Roux et al. 2019): [.., 2, T] -> [..]."""
    estimate, target = estimate.flatten(-2), target.flatten(-2)
    scale = (estimate * target).sum(-1, keepdim=True) / target.square().sum(-1, keepdim=True).clamp_min(1e-12)
    projected = scale * target
    noise = (estimate - projected).square().sum(-1).clamp_min(1e-12)
    return 10 * torch.log10(projected.square().sum(-1).clamp_min(1e-12) / noise)


def write_atomically(path: Path, save: Any) -> None:
    """Lets `save(temporary)` write beside `path`, then renames."""
    temporary = path.with_name(path.name + ".part")
    save(temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(path)


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up over 50 steps, then constant, then linear to nothing over the last 30%."""
    return peak * min((step + 1) / 50, 1.0, max(0.0, (steps - step) / (0.3 * steps)))


@app.command()
def train(
    songs: Annotated[Path, typer.Argument(help="Folder of songs with stems to train on.")],
    heldout: Annotated[Path, typer.Argument(help="Folder of songs with stems to validate on.")],
    work: Annotated[Path, typer.Option(help="Gets the checkpoints and log.csv.")] = Path("data/separator/run"),
    config: Annotated[Path, typer.Option(help="The separator's YAML.")] = CONFIG,
    steps: Annotated[int, typer.Option(help="Optimiser steps in all; may be changed between runs.")] = 3000,
    batch_size: Annotated[int, typer.Option(help="Items of one chunk each.")] = 4,
    learning_rate_peak: Annotated[float, typer.Option("--learning-rate")] = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    bf16: Annotated[bool, typer.Option(help="bf16 autocast.")] = True,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints and validations.")] = 100,
    minutes: Annotated[float, typer.Option(help="Stop (and save) after that many minutes; 0: never.")] = 0,
) -> None:
    """Trains, validating and saving now and then; run again, it goes on."""
    file = read_separator_config(config)
    order = [STEMS.index(name) for name in file.instruments]
    training, validation = find_songs(songs, file.chunk), find_songs(heldout, file.chunk)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = SCNet(file.model, "masked").to(device)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    optimizer = torch.optim.AdamW(network.parameters(), lr=learning_rate_peak, weight_decay=1e-3)
    first, latest = 0, work / "latest.pt"
    if latest.is_file():
        saved = torch.load(latest, map_location=device, weights_only=True)
        if saved.get("version") != CHECKPOINT_VERSION:
            raise MixstyleError(f"{latest}: version {saved.get('version')}, not {CHECKPOINT_VERSION}; remove it")
        network.load_state_dict(saved["network"])
        optimizer.load_state_dict(saved["optimizer"])
        average, first = saved["average"], saved["step"]
        print(f"going on from step {first}", flush=True)
    start, log = time.monotonic(), work / "log.csv"
    stream = batches(training, seed, first, batch_size, file.chunk)
    running = math.nan
    for step in range(first, steps):
        stems = next(stream).to(device)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, learning_rate_peak)
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            estimate = network(stems.sum(1))
        loss = loss_of(estimate.float(), stems[:, order])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        decay = min(0.995, (step + 1) / (step + 10))
        for key, value in network.state_dict().items():
            average[key].lerp_(value, 1 - decay)
        running = loss.item() if math.isnan(running) else 0.95 * running + 0.05 * loss.item()
        out_of_time = minutes > 0 and time.monotonic() - start > 60 * minutes
        if (step + 1) % save_every == 0 or step + 1 == steps or out_of_time:
            state = {"version": CHECKPOINT_VERSION, "step": step + 1, "network": network.state_dict()}
            state |= {"average": average, "optimizer": optimizer.state_dict()}
            write_atomically(latest, lambda path, state=state: torch.save(state, path))
            write_atomically(work / "average.safetensors", lambda path: save_file(average, path))
            gains = validate(average, network, file.instruments, validation, file.chunk, device)
            rate = (step + 1 - first) / (time.monotonic() - start)
            told = ", ".join(f"{stem} {gain:+.2f}" for stem, gain in zip(STEMS, gains, strict=True))
            print(f"step {step + 1}/{steps}, loss {running:.3f}, {rate:.2f} steps/s, SI-SDRi dB: {told}", flush=True)
            with log.open("a") as lines:
                lines.write(f"{step + 1},{running:.4f},{','.join(f'{gain:.3f}' for gain in gains)}\n")
        if out_of_time:
            break
    print(f"averaged weights: {work / 'average.safetensors'}", flush=True)


@torch.inference_mode()
def validate(
    weights: dict[str, Tensor], network: SCNet, names: tuple[str, ...], songs: list[Song], frames: int, device: str
) -> list[float]:
    """Median SI-SDR improvement in dB for each of STEMS over one chunk from the middle of each song."""
    own = {k: v.clone() for k, v in network.state_dict().items()}
    network.load_state_dict(weights)
    gains = []
    for song in songs:
        start = (song.frames - frames) // 2
        stems = torch.stack([torch.from_numpy(song.read(i, start, frames)) for i in range(len(STEMS))])
        out = network(stems.sum(0)[None].to(device))[0].cpu()[[names.index(stem) for stem in STEMS]]
        audible = stems.square().mean((1, 2)) > 1e-6
        gain = si_sdr_db(out, stems) - si_sdr_db(stems.sum(0).expand_as(stems), stems)
        gains.append(torch.where(audible, gain, torch.nan))
    network.load_state_dict(own)
    return torch.stack(gains).nanmedian(0).values.tolist()


@app.command()
def evaluate(
    heldout: Annotated[Path, typer.Argument(help="Folder of songs with stems.")],
    config: Path = CONFIG,
    checkpoint: Path = WEIGHTS,
    device: str = "cpu",
    output: Annotated[Path | None, typer.Option(help="Writes the table as JSON.")] = None,
) -> None:
    """Prints each stem's SI-SDR and SI-SDR improvement over whole held-out songs."""
    separator = load_separator(config, checkpoint, device)
    scores, gains = [], []
    for song in find_songs(heldout, separator.chunk_frames):
        stems = torch.stack([torch.from_numpy(song.read(i, 0, song.frames)) for i in range(len(STEMS))])
        mixture = stems.sum(0)
        score = si_sdr_db(separator.separate([mixture])[0], stems)
        scores.append(score)
        gains.append(score - si_sdr_db(mixture.expand_as(stems), stems))
    table = {
        stem: {
            "si_sdr_db_mean": round(float(torch.stack(scores)[:, i].mean()), 2),
            "si_sdr_db_median": round(float(torch.stack(scores)[:, i].median()), 2),
            "si_sdri_db_mean": round(float(torch.stack(gains)[:, i].mean()), 2),
            "si_sdri_db_median": round(float(torch.stack(gains)[:, i].median()), 2),
        }
        for i, stem in enumerate(STEMS)
    }
    print(f"{len(scores)} songs, {separator.description}")
    for stem, row in table.items():
        print(f"{stem:7s} " + "  ".join(f"{name} {value:6.2f}" for name, value in row.items()))
    if output:
        output.write_text(json.dumps({"songs": len(scores), **table}, indent=1) + "\n")


if __name__ == "__main__":
    try:
        app()
    except MixstyleError as error:
        raise SystemExit(f"train.py: error: {error}") from error
