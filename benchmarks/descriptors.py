"""The descriptors' speed beside StemFX's extractor and a plain loop, in one process, on the same clips of 10 s.

Ours is there twice: by the kernel, C that is built at its first use where a C compiler is there, and by torch's code.

    uv pip install --no-deps stemfx==0.2.0   # what it is measured against; without it its row is left out
    uv run python benchmarks/descriptors.py cache/cpu/stems

Clips are cached ones, or rendered where no folder of stems is given. StemFX computes 64 values a clip (its loudness is
a level without weighting and gates), the plain loop what a person would write with pyloudnorm, scipy and numpy for
the same kinds of values, ours the whole table. All ways take turns; medians of the rounds count.

The floor is measured too: the transforms alone, on frames that are there already, and reading each sample once. And
what training could save by taking the descriptors' transforms from the encoder's mel.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyloudnorm
import scipy.signal
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, describe
from mixstyle.pipeline.descriptors.spectrum import COARSE_HOP, COARSE_WINDOW, DECIMATION, FINE_HOP, FINE_WINDOW
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.synth.song import MIN_DURATION_S, render_song
from mixstyle.stages.common import descriptor_kernel as commands
from mixstyle.stages.common.descriptor_kernel import descriptor_kernel

CLIP = 10 * SAMPLE_RATE
CLIPS = 8
OURS: dict[str, Callable[[Tensor], Tensor]] = {"kernel": commands.describe, "torch": describe}
"""What commands describe with, torch's code where there is no kernel; and torch's code."""


def main(
    stems_dir: Annotated[Path | None, typer.Argument(help="A folder of cached stems.")] = None,
    rounds: int = 5,
    quick: Annotated[bool, typer.Option(help="Clips of 2 s, one round, one thread, to see it work.")] = False,
) -> None:
    """Measures and prints."""
    clips = clips_of(stems_dir, CLIP // 5, 1) if quick else clips_of(stems_dir, CLIP, CLIPS)
    rounds = 1 if quick else rounds
    cores = usable_cores()
    ways: dict[str, tuple[int, Callable[[], Any]]] = {}
    peer = stemfx_extractor()
    for threads in (1,) if quick else sorted({1, min(2, cores)}):
        if peer is not None:
            ways[f"StemFX 0.2.0, {threads} threads"] = threads, lambda: [peer(clip) for clip in clips]
        for name, ours in OURS.items():
            if name == "torch" or descriptor_kernel() is not None:
                ways |= {
                    f"{name}, batch 1, {threads} threads": (threads, partial(one_by_one, ours, clips)),
                    f"{name}, batch 8, {threads} threads": (threads, partial(ours, clips)),
                }
    if cores > 1:
        ways["kernel, 2 batches side by side, as `features` does"] = 1, lambda: side_by_side(clips)
    ways["plain loop (pyloudnorm, numpy), 1 thread"] = 1, lambda: [plain(clip.numpy()) for clip in clips[:2]]
    seconds = {name: [] for name in ways}
    before = torch.get_num_threads()
    for turn in range(0 if quick else -1, rounds):  # the first round warms up
        for name, (threads, work) in ways.items():
            torch.set_num_threads(threads)
            start = time.perf_counter()
            work()
            taken_s = (time.perf_counter() - start) / (2 if name.startswith("plain") else len(clips))
            if turn >= 0:
                seconds[name].append(taken_s)
    found = {name: statistics.median(values) for name, values in seconds.items()}
    clip_s = clips.shape[-1] / SAMPLE_RATE
    console = Console(width=110) if not sys.stdout.isatty() else Console()
    console.print(f"{len(clips)} clips of {clip_s:g} s, {rounds} rounds, torch {torch.__version__}, {cores} cores")
    console.print(_table(found, clip_s))
    torch.set_num_threads(1)
    _print_agreement(console, clips)
    ours_s = found.get("kernel, batch 8, 1 threads", found["torch, batch 8, 1 threads"])
    _print_floor(console, clips, ours_s)
    _print_sharing(console, clips, ours_s)
    torch.set_num_threads(before)


def _table(found: dict[str, float], clip_s: float) -> Table:
    table = Table("way", title="descriptors")
    for column in ("ms a clip", "x real time", "x StemFX, same threads", "x plain loop"):
        table.add_column(column, justify="right")
    plain_s = next(seconds for name, seconds in found.items() if name.startswith("plain"))
    for name, seconds in found.items():
        threads = 2 if "2 threads" in name or "side by side" in name else 1
        peer_s = found.get(f"StemFX 0.2.0, {threads} threads")
        table.add_row(
            name,
            f"{1e3 * seconds:.1f}",
            f"{clip_s / seconds:.0f}",
            f"{peer_s / seconds:.1f}" if peer_s else "-",
            f"{plain_s / seconds:.1f}",
        )
    return table


def _print_agreement(console: Console, clips: Tensor) -> None:
    """Our gated loudness against pyloudnorm's, of all stems that pass its gate; and both ways' values."""
    columns = [i for i, d in enumerate(DESCRIPTORS) if d.kind == "loudness_lufs"]
    found = {name: ours(clips) for name, ours in OURS.items()}
    ours = found["kernel"][:, columns].numpy()
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    clips64 = clips.numpy().astype(np.float64)
    theirs = np.array([[meter.integrated_loudness(stem.T) for stem in clip] for clip in clips64])
    heard = np.isfinite(theirs) & (theirs > -70)
    console.print(
        f"gated loudness: at most {np.abs(ours - theirs)[heard].max():.4f} LU from pyloudnorm's, {heard.sum()} stems"
    )
    off = (found["kernel"] - found["torch"]).abs().amax(0)
    name, lufs = DESCRIPTORS[int(off.argmax())].name, off[columns].max().item()
    console.print(f"kernel against torch: at most {off.max().item():.1e} of a unit ({name}), {lufs:.1e} LU of loudness")


def _print_floor(console: Console, clips: Tensor, ours_s: float) -> None:
    """What must be done at least, on one thread."""
    samples = clips.shape[-1]
    fine = torch.randn(8, samples // FINE_HOP + 1, FINE_WINDOW)  # 4 stems, m and s
    coarse = torch.randn(8, samples // (COARSE_HOP * DECIMATION) + 1, COARSE_WINDOW)
    fft_s = seconds_of(lambda: [torch.fft.rfft(stem) for frames in (fine, coarse) for stem in frames])
    read_s = seconds_of(lambda: clips[0].sum())
    size = clips[0].numel() * 4
    console.print(
        f"floor, one thread: transforms {1e3 * fft_s:.1f} ms a clip ({(fine.shape[1] + coarse.shape[1]) * 8} of them), "
        f"reading {size / 1e6:.1f} MB once {1e3 * read_s:.1f} ms: ours takes {ours_s / (fft_s + read_s):.1f} times that"
    )


def _print_sharing(console: Console, clips: Tensor, ours_s: float) -> None:
    """The short frames are every other one of the mel's where its hop is 256: what taking them over would save."""
    samples = clips.shape[-1]
    fine = torch.randn(8, samples // FINE_HOP + 1, FINE_WINDOW)
    window = torch.hann_window(FINE_WINDOW)
    save_s = seconds_of(lambda: [torch.fft.rfft(stem * window) for stem in fine])
    mel = StemMel()
    mel_s = seconds_of(lambda: mel(clips[:1]))
    console.print(
        f"sharing transforms with the mel ({1e3 * mel_s:.1f} ms a clip) would save at most {1e3 * save_s:.1f} ms of "
        f"the {1e3 * ours_s:.1f} ms that describing a negative takes"
    )


def seconds_of(work: Callable[[], Any], times: int = 7) -> float:
    """Median seconds of a call."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def side_by_side(clips: Tensor) -> None:
    """Half of the clips in each of two threads, each with one of torch's."""
    with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        list(pool.map(OURS["kernel"], clips.chunk(2)))


def one_by_one(ours: Callable[[Tensor], Tensor], clips: Tensor) -> None:
    """Batches of a clip each."""
    for clip in clips:
        ours(clip[None])


def clips_of(stems_dir: Path | None, frames: int, songs: int) -> Tensor:
    """[8, 4, 2, frames] of cached clips, or of so many rendered songs."""
    if stems_dir is None:
        each = CLIPS // songs
        duration_s = max(MIN_DURATION_S, each * frames / SAMPLE_RATE + 2)
        rendered = [torch.from_numpy(render_song(seed, duration_s).stems) for seed in range(songs)]
        return torch.cat([torch.stack(song[..., : each * frames].chunk(each, dim=-1)) for song in rendered])
    cache = StemCache(stems_dir)
    tracks = [track for track in cache.tracks if len(track.clips) > 1][:CLIPS]
    return torch.stack([torch.from_numpy(cache.read_clip(track.clips[1])) for track in tracks])[..., :frames]


def stemfx_extractor() -> Callable[[Tensor], Any] | None:
    """StemFX's extractor, from its own file: importing the package would need what --no-deps leaves out."""
    package = importlib.util.find_spec("stemfx")
    if package is None or not package.submodule_search_locations:
        print("StemFX is not installed, so its rows are left out: uv pip install --no-deps stemfx==0.2.0")
        return None
    path = Path(package.submodule_search_locations[0]) / "mixing_features.py"
    spec = importlib.util.spec_from_file_location("stemfx_mixing_features", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    extractor = module.MixingFeatureExtractor(sample_rate=SAMPLE_RATE)
    return lambda clip: extractor.extract_all_features(dict(zip(STEMS, clip, strict=True)))


def plain(stems: np.ndarray) -> list[float]:
    """The same kinds of values as ours for [4, 2, T], one stem after the other; one resolution of 4096 samples."""
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    mix_lufs = meter.integrated_loudness(stems.sum(0).T)
    edges = 1000 * 2.0 ** (np.arange(-5, 6) - 0.5)
    erbs = (10 ** (np.linspace(0.9, 33.7, 40) / 21.4) - 1) / 0.00437
    values: list[float] = []
    tiles = []
    for stem in stems:
        left, right = stem
        rms = np.sqrt((stem**2).mean(1)) + 1e-12
        lufs = meter.integrated_loudness(stem.T)
        values += [*(20 * np.log10(rms)), 20 * np.log10(np.abs(stem).max() / rms.mean() + 1e-12)]
        values += [lufs, lufs - mix_lufs, 20 * np.log10(np.abs(stem).max() + 1e-12) - lufs]
        spectra = {}
        for name, signal in (("mid", left + right), ("side", left - right)):
            frequencies, _, spectrum = scipy.signal.stft(signal, SAMPLE_RATE, nperseg=4096, noverlap=3072)
            spectra[name] = np.abs(spectrum) ** 2
        both = spectra["mid"] + spectra["side"]
        total = both.sum() + 1e-12
        octaves = [both[(frequencies >= a) & (frequencies < b)].sum() for a, b in pairwise(edges)]
        levels_db = 10 * np.log10(np.array(octaves) / total + 1e-12)
        values += [*levels_db, float(np.polyfit(np.arange(len(octaves)), levels_db, 1)[0])]
        used = both[(frequencies >= 250) & (frequencies < 8000)] + 1e-12
        values.append(float(np.mean(10 * np.log10(np.exp(np.log(used).mean(0)) / used.mean(0)))))
        heard = left.std() > 0 and right.std() > 0  # of silence there is no correlation
        values += [20 * np.log10(rms[0] / rms[1]), float(np.corrcoef(left, right)[0, 1]) if heard else 0.0]
        for low, high in ((0, 22_050), (22, 250), (250, 4000), (4000, 22_050)):
            rows = (frequencies >= low) & (frequencies < high)
            ratio = (spectra["mid"][rows].sum() + 1e-12) / (spectra["side"][rows].sum() + 1e-12)
            values.append(float(10 * np.log10(ratio)))
        tiles.append(np.stack([both[(frequencies >= a) & (frequencies < b)].sum(0) for a, b in pairwise(erbs)]))
    for own, tile in enumerate(tiles):
        others = [other for i, other in enumerate(tiles) if i != own]
        active = tile > 1e-4 * tile.mean()
        together = sum(others)
        if not active.any():  # a stem that is silent all through
            values += [0.0] * (2 + len(others))
            continue
        values.append(float(np.mean(10 * np.log10((together + 1e-12) / (tile + 1e-12))[active])))
        values += [float((rival > tile)[active].mean()) for rival in (together, *others)]
    return values


if __name__ == "__main__":
    typer.run(main)
