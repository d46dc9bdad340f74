"""Trains the small SCNet that mixstyle ships: on rendered songs with true stems and on real music that a teacher heard.

    mixstyle demo-songs data/separator/train --songs 160 --seed 1000 --duration 40
    mixstyle demo-songs data/separator/validation --songs 12 --seed 5000 --duration 40
    mixstyle demo-songs data/separator/heldout --songs 16 --seed 9000 --duration 40
    python Music-Source-Separation-Training/recipe/train.py train data/separator/train data/separator/validation
    python Music-Source-Separation-Training/recipe/train.py evaluate data/separator/heldout

Any folders of songs with vocals, bass, drums and other in FLAC or WAV will do (MUSDB18-HQ, say). `--taught` names what
`teacher.py` wrote: excerpts of real music with a teacher's vocals and accompaniment. `hear` tells how loud a
separator's vocals are in such excerpts. A run that was stopped goes on from its last checkpoint; what a step draws
depends on the data, the seed and the step alone.
"""

import json
import math
import os
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor
from training_items import (
    QUIET_DB,
    Corpus,
    Song,
    batches,
    find_songs,
    find_taught,
    level_db,
)

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.separation.architectures.scnet_network import SCNet
from mixstyle.pipeline.separation.separator import Precision, Separator, load_separator
from mixstyle.pipeline.separation.separator_checkpoint import SeparatorFile, read_separator_config, read_state_dict

HERE = Path(__file__).parent.parent
CONFIG = HERE / "configs" / "scnet_tiny.yaml"
WEIGHTS = HERE / "scnet_tiny.safetensors"
CHECKPOINT_VERSION = 2
SNR_FLOOR = 1e-3
"""Errors 30 dB below stem or mixture count as none: Wisdom et al., "Unsupervised Sound Separation Using Mixture
Invariant Training", NeurIPS 2020, eq. 2."""
SILENT_FLOOR = 1e-2
"""The same for stems that should be silent, 20 dB below the mixture: at 30 dB the reward of silence outweighs that of
hearing a voice, and the voices go too."""

TEACHER_NONE_LU = -20.0
"""The teacher hears no vocals in an excerpt where its vocals lie below this, in LU against the mixture."""
AUDIBLE_LU = -12.0
"""Vocals above this, in LU against the mixture, are heard as such."""
NOTHING_DB = -25.0
"""Vocals' level in dB against the mixture below which validation counts no further gain."""

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__, rich_markup_mode=None)


def loss_of(estimate: Tensor, stems: Tensor, known: Tensor) -> Tensor:
    """Thresholded negative SNR in dB, plus 10 times the waveform L1 over the mixture's RMS; both [B, 4, 2, T].

    Both in the order of STEMS. Items that are not `known` [B] are judged by their vocals and by the sum of the others.
    """
    rest = estimate[:, 1:].sum(1)
    nothing = torch.zeros_like(rest)
    two = torch.stack([estimate[:, 0], nothing, nothing, rest], 1)
    estimate = torch.where(known[:, None, None, None], estimate, two)
    weights = torch.where(known[:, None], 0.25, torch.tensor([0.5, 0.0, 0.0, 0.5], device=known.device))
    mixture = stems.sum(1, keepdim=True)
    error = estimate - stems
    signal, noise = stems.square().mean((2, 3)), error.square().mean((2, 3))
    power = mixture.square().mean((2, 3))
    floor = torch.where(signal > 1e-6 * power, SNR_FLOOR, SILENT_FLOOR) * power + 1e-8
    snr = 10 * torch.log10((noise + floor + SNR_FLOOR * signal) / (signal + floor))
    rms = mixture.square().mean((1, 2, 3)).sqrt() + 1e-4
    l1 = (error.abs().mean((2, 3)) * weights).sum(1)
    return (snr * weights).sum(1).mean() + 10 * (l1 / rms).mean()


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


class TrainingSCNet(SCNet):
    """SCNet with its tensors laid out channels last, which takes two thirds of the time in bf16 on a CPU with AMX."""

    def network(self, x: Tensor) -> Tensor:
        """Spectra [B, 4, F, T] -> masks [B, 4 * S, F, T], as in SCNet."""
        return super().network(x.contiguous(memory_format=torch.channels_last))


@dataclass
class Run:
    """All that a checkpoint holds."""

    network: SCNet
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Exponential average of the weights."""
    step: int = 0
    best: float = -math.inf
    """The best validation score so far."""
    loss: float = math.nan
    """Running mean of the loss."""
    start: dict[str, float] = field(default_factory=dict)
    """Each stem's SI-SDR improvement in dB before the first step."""

    def improves(self, report: dict[str, float]) -> bool:
        """Whether validation figures are the best so far and no stem is worse than at the start."""
        return report["score"] > self.best and all(report[stem] >= gain for stem, gain in self.start.items())

    def advance_average(self) -> None:
        """Follows the weights after a step."""
        decay = min(0.995, (self.step + 1) / (self.step + 10))
        for key, value in self.network.state_dict().items():
            self.average[key].lerp_(value, 1 - decay)


def start_run(file: SeparatorFile, start: Path | None, peak: float, device: str) -> Run:
    """A new run: from a checkpoint's weights, or from weights drawn by torch's seed."""
    network = TrainingSCNet(file.model, "masked")
    if start is not None:
        network.load_state_dict(read_state_dict(start))
    network.to(device)
    average = {k: v.detach().clone() for k, v in network.state_dict().items()}
    return Run(network, torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=1e-3), average)


def load_run(run: Run, path: Path, device: str) -> None:
    """Brings a run to where `save_run` left it."""
    saved = torch.load(path, map_location=device, weights_only=True)
    if saved.get("version") != CHECKPOINT_VERSION:
        raise MixstyleError(
            f"{path}: version {saved.get('version')}, not {CHECKPOINT_VERSION}; remove it", code="unknown-version"
        )
    run.network.load_state_dict(saved["network"])
    run.optimizer.load_state_dict(saved["optimizer"])
    run.average, run.step, run.best = saved["average"], saved["step"], saved["best"]
    run.loss, run.start = saved["loss"], saved["start"]


def save_run(run: Run, work: Path, improved: bool) -> None:
    """Writes latest.pt and average.safetensors, and best.safetensors where the average is the best so far."""
    state = {"version": CHECKPOINT_VERSION, "step": run.step, "best": run.best, "network": run.network.state_dict()}
    state |= {"average": run.average, "optimizer": run.optimizer.state_dict(), "loss": run.loss, "start": run.start}
    write_atomically(work / "average.safetensors", lambda path: save_file(run.average, path))
    if improved:
        write_atomically(work / "best.safetensors", lambda path: save_file(run.average, path))
    write_atomically(work / "latest.pt", lambda path: torch.save(state, path))


@app.command()
def train(
    songs: Annotated[Path, typer.Argument(help="Folder of songs with stems to train on.")],
    heldout: Annotated[Path, typer.Argument(help="Folder of songs with stems to validate on.")],
    work: Annotated[Path, typer.Option(help="Gets the checkpoints and log.csv.")] = Path("data/separator/run"),
    config: Annotated[Path, typer.Option(help="The separator's YAML.")] = CONFIG,
    taught: Annotated[Path | None, typer.Option(help="What teacher.py wrote, to train on beside songs.")] = None,
    shares: Annotated[tuple[float, float], typer.Option(help="Shares of rendered and of taught items.")] = (0.6, 0.15),
    start_from: Annotated[Path | None, typer.Option(help="Weights to start from, such as the shipped ones.")] = None,
    steps: Annotated[int, typer.Option(help="Optimiser steps in all; may be changed between runs.")] = 3000,
    batch_size: Annotated[int, typer.Option(help="Items of one chunk each.")] = 4,
    learning_rate_peak: Annotated[float, typer.Option("--learning-rate")] = 2e-3,
    seed: int = 0,
    device: str = "cpu",
    bf16: Annotated[bool, typer.Option(help="bf16 autocast.")] = True,
    threads: Annotated[int, typer.Option(help="Threads of torch on a CPU; 0: as it likes.")] = 0,
    save_every: Annotated[int, typer.Option(help="Steps between checkpoints and validations.")] = 100,
    minutes: Annotated[float, typer.Option(help="Stop (and save) after that many minutes; 0: never.")] = 0,
) -> None:
    """Trains, validating and saving now and then; run again, it goes on."""
    if threads > 0:
        torch.set_num_threads(threads)
    file = read_separator_config(config)
    order = [file.instruments.index(name) for name in STEMS]
    real, unheard = find_taught(taught, file.chunk) if taught else ([], [])
    corpus, validation = Corpus(find_songs(songs, file.chunk), real, shares), find_songs(heldout, file.chunk)
    work.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    run = start_run(file, start_from, learning_rate_peak, device)
    if (work / "latest.pt").is_file():
        load_run(run, work / "latest.pt", device)
        print(f"going on from step {run.step}", flush=True)
    print(f"{len(corpus.rendered)} songs, {len(real)} excerpts taught, {len(unheard)} to validate", flush=True)

    def settle() -> None:
        report = validate(run, order, validation, unheard, file.chunk, device, bf16)
        if run.step == 0:
            run.start = {stem: report[stem] for stem in STEMS}
        improved = run.improves(report)
        if improved:
            run.best = report["score"]
        save_run(run, work, improved)
        write_log(work / "log.csv", {"step": run.step, "loss": run.loss, **report})

    stream = batches(corpus, seed, run.step, batch_size, file.chunk)
    begun, told, first = time.monotonic(), 0.0, run.step
    if run.step == 0:
        settle()
    while run.step < steps:
        loss = take_step(run, next(stream), order, learning_rate(run.step, steps, learning_rate_peak), device, bf16)
        run.loss = loss if math.isnan(run.loss) else 0.95 * run.loss + 0.05 * loss
        now = time.monotonic() - begun
        if now - told >= 60:
            print(f"step {run.step}/{steps}, loss {run.loss:.3f}, {now / (run.step - first):.2f} s a step", flush=True)
            told = now
        out_of_time = minutes > 0 and now > 60 * minutes
        if run.step % save_every == 0 or run.step == steps or out_of_time:
            settle()
        if out_of_time:
            break
    print(f"averaged weights: {work / 'average.safetensors'}, of the best score: best.safetensors", flush=True)


def take_step(run: Run, batch: tuple[Tensor, Tensor], order: list[int], rate: float, device: str, bf16: bool) -> float:
    """One optimiser step at the learning rate `rate`; returns the loss."""
    stems, known = (part.to(device) for part in batch)
    for group in run.optimizer.param_groups:
        group["lr"] = rate
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
        estimate = run.network(stems.sum(1))
    loss = loss_of(estimate.float()[:, order], stems, known)
    run.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), 5.0)
    run.optimizer.step()
    run.advance_average()
    run.step += 1
    return loss.item()


def write_log(path: Path, row: dict[str, float]) -> None:
    """Prints a row of figures and adds it to a CSV file."""
    print("validation: " + ", ".join(f"{name} {value:.6g}" for name, value in row.items()), flush=True)
    header = "" if path.is_file() else ",".join(row) + "\n"
    with path.open("a", encoding="utf-8") as lines:
        lines.write(header + ",".join(f"{value:.6g}" for value in row.values()) + "\n")


@torch.inference_mode()
def validate(
    run: Run, order: list[int], songs: list[Song], taught: list[Song], frames: int, device: str, bf16: bool
) -> dict[str, float]:
    """The average's figures over one chunk from the middle of each song and excerpt.

    Each stem's median SI-SDR improvement in dB; the mean level in dB of the vocals, against the mixture and counted
    from NOTHING_DB up, where the teacher hears none; and the score by which the best weights are kept: the mean of the
    four improvements less a fifth of that level.
    """
    own = {k: v.clone() for k, v in run.network.state_dict().items()}
    run.network.load_state_dict(run.average)

    def stems_of(stems: Tensor) -> Tensor:
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=bf16):
            return run.network(stems.sum(0)[None].to(device))[0].float().cpu()[order]

    gains, levels = [], []
    for song in songs:
        stems = middle(song, frames)
        audible = stems.square().mean((1, 2)) > 1e-6
        gain = si_sdr_db(stems_of(stems), stems) - si_sdr_db(stems.sum(0).expand_as(stems), stems)
        gains.append(torch.where(audible, gain, torch.nan))
    for song in taught:
        stems = middle(song, frames)
        mixture = stems.sum(0).numpy()
        if level_db(stems[0].numpy(), mixture) < QUIET_DB:
            levels.append(max(NOTHING_DB, level_db(stems_of(stems)[0].numpy(), mixture)))
    run.network.load_state_dict(own)
    report = dict(zip(STEMS, torch.stack(gains).nanmedian(0).values.tolist(), strict=True))
    score = sum(report.values()) / len(report)
    if levels:
        report["unsung_vocals_db"] = sum(levels) / len(levels)
        score -= report["unsung_vocals_db"] / 5
    return {**report, "score": score}


def middle(song: Song, frames: int) -> Tensor:
    """The middle of a song, all its stems [S, 2, frames]."""
    start = (song.frames - frames) // 2
    return torch.stack([torch.from_numpy(song.read(i, start, frames)) for i in range(len(song.paths))])


@app.command()
def score(
    heldout: Annotated[Path, typer.Argument(help="Folder of songs with stems to validate on.")],
    taught: Annotated[Path, typer.Argument(help="What teacher.py wrote; its validation excerpts are heard.")],
    checkpoint: Annotated[list[Path], typer.Option(help="Weights; may be given several times.")],
    config: Path = CONFIG,
    device: str = "cpu",
    bf16: Annotated[bool, typer.Option(help="bf16 autocast.")] = True,
    threads: Annotated[int, typer.Option(help="Threads of torch on a CPU; 0: as it likes.")] = 0,
) -> None:
    """Prints the validation figures of weights, by which train keeps the best."""
    if threads > 0:
        torch.set_num_threads(threads)
    file = read_separator_config(config)
    order = [file.instruments.index(name) for name in STEMS]
    songs, unheard = find_songs(heldout, file.chunk), find_taught(taught, file.chunk)[1]
    for path in checkpoint:
        report = validate(start_run(file, path, 0.0, device), order, songs, unheard, file.chunk, device, bf16)
        print(f"{path}: " + ", ".join(f"{name} {value:.3f}" for name, value in report.items()), flush=True)


@app.command()
def hear(
    taught: Annotated[Path, typer.Argument(help="What teacher.py wrote, of music that nothing was trained on.")],
    config: Path = CONFIG,
    checkpoint: Path = WEIGHTS,
    device: str = "cpu",
    overlap: Annotated[int | None, typer.Option(help="num_overlap, instead of the YAML's.")] = None,
    precision: Annotated[Precision, typer.Option(help="fp32, bf16 or fp16; bf16 is faster on newer CPUs.")] = "fp32",
    threads: Annotated[int, typer.Option(help="Threads of torch on a CPU; 0: as it likes.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Writes a row an excerpt as JSON.")] = None,
) -> None:
    """Tells how loud a separator's stems are in real music, against the mixture, and what the teacher says."""
    if threads > 0:
        torch.set_num_threads(threads)
    separator = load_separator(config, checkpoint, device, precision, num_overlap=overlap)
    rows: list[dict[str, Any]] = []
    songs = find_songs(taught, SAMPLE_RATE, ("vocals", "accompaniment"))
    songs.sort(key=lambda song: zlib.crc32(song.paths[0].parent.relative_to(taught).as_posix().encode()))
    for song in songs:
        rows.append({"name": song.paths[0].parent.relative_to(taught).as_posix(), **heard(song, separator)})
        if len(rows) % 10 == 0 and output:
            write_rows(output, rows)
            print(f"{len(rows)} excerpts", flush=True)
    unsung = [row for row in rows if row["teacher_lu"] < TEACHER_NONE_LU]
    print(f"{len(rows)} excerpts, {separator.description}; the teacher hears no vocals in {len(unsung)}")
    for name, chosen in (("all", rows), ("unsung", unsung)):
        if chosen:
            levels = np.array([row["vocals_lu"] for row in chosen])
            share = 100 * float((levels > AUDIBLE_LU).mean())
            print(f"{name:7s} vocals: mean {levels.mean():.2f} LU, median {np.median(levels):.2f} LU, "
                  f"above {AUDIBLE_LU:g} LU in {share:.1f}%")  # fmt: skip
    if output:
        write_rows(output, rows)


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows as JSON; `hear` does so now and then, in an order mixed by hash, so that a part is a fair one."""
    write_atomically(path, lambda partial: partial.write_text(json.dumps(rows, indent=1) + "\n"))


def heard(song: Song, separator: Separator) -> dict[str, float]:
    """Loudness of the separator's stems and of the teacher's vocals against the mixture's, in LU, and how much of the
    teacher's accompaniment the other three give back (SI-SDR in dB)."""
    vocals, rest = (torch.from_numpy(song.read(i, 0, song.frames)) for i in range(2))
    mixture = vocals + rest
    stems = separator.separate([mixture])[0]
    whole = integrated_loudness(mixture, SAMPLE_RATE)
    levels = integrated_loudness(torch.cat([stems, vocals[None]]), SAMPLE_RATE) - whole
    report = {f"{stem}_lu": round(float(level), 2) for stem, level in zip((*STEMS, "teacher"), levels, strict=True)}
    report["vocals_si_sdr_db"] = round(float(si_sdr_db(stems[0], vocals)), 2)
    report["rest_si_sdr_db"] = round(float(si_sdr_db(stems[1:].sum(0), rest)), 2)
    return report


@app.command()
def evaluate(
    heldout: Annotated[Path, typer.Argument(help="Folder of songs with stems.")],
    config: Path = CONFIG,
    checkpoint: Path = WEIGHTS,
    device: str = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch on a CPU; 0: as it likes.")] = 0,
    output: Annotated[Path | None, typer.Option(help="Writes the table as JSON.")] = None,
) -> None:
    """Prints each stem's SI-SDR and SI-SDR improvement over whole held-out songs."""
    if threads > 0:
        torch.set_num_threads(threads)
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
        text = json.dumps({"songs": len(scores), **table}, indent=1) + "\n"
        write_atomically(output, lambda path: path.write_text(text))


if __name__ == "__main__":
    try:
        app()
    except MixstyleError as error:
        raise SystemExit(f"train.py: error: {error}") from error
