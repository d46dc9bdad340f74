"""`mixstyle evaluate`: does an embedding know how music was mixed, whatever the music is?

On held-out songs alone, all of it seeded. *Same chain, different content*: N styles of n effects, each applied to clips
of two songs; the query is the one, the pool holds the other of every style, and cosine ranks it. *Content-hard*: every
candidate is the query's own clip in another style, but one, which is another clip in the query's style.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, Dataset

from mixstyle.cache.atomic import atomic_write, locked, sha256_file, write_json
from mixstyle.cache.checkpoints import BEST
from mixstyle.cache.fingerprint import guard
from mixstyle.cache.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.pipeline.descriptors import describe
from mixstyle.pipeline.device import resolve_device
from mixstyle.pipeline.effects import EFFECTS
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.remix import Remix, apply_remix
from mixstyle.pipeline.retrieval import bootstrap_groups, hits, ranks, unit
from mixstyle.pipeline.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.styles import draw_style
from mixstyle.stages.evaluate_models import Z_SCORED, Clips, EncoderRow, Row, rows_of
from mixstyle.stages.progress import progress, say
from mixstyle.stages.settings import Settings, plain
from mixstyle.stages.train_setup import open_inputs

METRICS, SETTINGS = "metrics.json", "settings.json"
NEUTRAL = ("evaluate_dir", "device", "batch_clips", "workers")


@dataclass(frozen=True)
class Part:
    """Clips to render: each a place in `clips` and a style. songs: index of each clip's song."""

    name: str
    items: tuple[tuple[CachedClip, Remix], ...]
    songs: tuple[int, ...]


def evaluate(settings: Settings, rebuild: bool = False) -> dict[str, Any]:
    """Measures, prints a table, writes metrics.json, and returns what it holds; goes on where it was stopped.

    Raises MixstyleError where stems, descriptors or checkpoints are missing or do not fit.
    """
    options = settings.evaluate
    folder = options.evaluate_dir
    cache, _ = open_inputs(settings)
    checkpoints = list(options.checkpoints) or [settings.train.checkpoint_dir / BEST]
    for name in ("effects", "hard_effects"):
        if not 1 <= np.max(getattr(options, name)) <= len(EFFECTS):
            raise MixstyleError(f"evaluate.{name}={getattr(options, name)}: there are {len(EFFECTS)} effects")
    missing = next((path for path in checkpoints if not path.is_file()), None)
    if missing is not None:
        raise MixstyleError(f"{missing}: no such checkpoint; run `mixstyle train` first")
    device = resolve_device(options.device)
    rows = rows_of(checkpoints, options.models, device)
    songs = held_out(cache, rows)
    parts = [same_chain(songs, n, options.styles, options.seed) for n in options.effects]
    hard = content_hard(songs, options.hard_styles, options.hard_effects, options.seed)
    with locked(folder, "mixstyle evaluate"):
        shaping = {name: value for name, value in plain(options).items() if name not in NEUTRAL}
        made_from = {"stems": cache.fingerprint, "checkpoints": [sha256_file(path) for path in checkpoints]}
        outputs = [*folder.glob("*.npz"), folder / METRICS]
        made_with = {**shaping, "made_from": made_from}
        guard(folder / SETTINGS, made_with, stage="evaluate", rebuild=rebuild, remove=outputs)
        total = sum(len(part.items) for part in (*parts, hard))
        say(f"evaluate: {len(songs)} held-out songs, {total} clips to mix, {len(rows)} rows, on {device}")
        with progress("evaluate", total, "clips") as bar:
            found = {}
            for part in (*parts, hard):
                found[part.name] = embedded(settings, cache, part, rows, device, bar.advance)
        metrics = {
            "songs": len(songs),
            "styles": options.styles,
            "same_chain": {
                str(n): {row.name: retrieval_of(found[part.name][row.name], part, row.name) for row in rows}
                for n, part in zip(options.effects, parts, strict=True)
            },
            "content_hard": {
                row.name: hard_of(found[hard.name][row.name], hard, options.hard_styles, row.name) for row in rows
            },
        }
        write_json(folder / METRICS, json.loads(json.dumps(metrics)))
    show(metrics, [row.name for row in rows])
    say(f"evaluate: wrote {folder / METRICS}")
    return metrics


def held_out(cache: StemCache, rows: Sequence[Row] = ()) -> list[CachedTrack]:
    """Songs that are not for training, and that no encoder of the rows was trained on: they are known by their path
    within the music folder. Raises MixstyleError for fewer than two."""
    known = {int(number) for row in rows if isinstance(row, EncoderRow) for number in row.trained_on}
    songs = [track for track in cache.tracks if track.split != "train" and int(track.track_id, 16) not in known]
    if len(songs) < 2:
        raise MixstyleError(
            f"{cache.stems_dir}: {len(songs)} songs that nothing was trained on, and 2 are needed; separate "
            "more music, or raise separate.validation_fraction and separate.test_fraction"
        )
    return songs


def same_chain(songs: Sequence[CachedTrack], effects: int, styles: int, seed: int) -> Part:
    """Queries, then the pool: style i on clips of two different songs."""
    items: list[list[tuple[CachedClip, Remix]]] = [[], []]
    places: list[list[int]] = [[], []]
    for i in range(styles):
        rng = np.random.default_rng([seed, 0, effects, i])
        style = draw_style(rng, effects)
        for side, place in enumerate(rng.choice(len(songs), 2, replace=False)):
            clips = songs[int(place)].clips
            items[side].append((clips[int(rng.integers(len(clips)))], style))
            places[side].append(int(place))
    return Part(f"same_chain_{effects}", tuple(items[0] + items[1]), tuple(places[0] + places[1]))


def content_hard(songs: Sequence[CachedTrack], styles: int, effects: int, seed: int) -> Part:
    """A grid: each of `styles` styles on a clip of every song, style by style."""
    rng = np.random.default_rng([seed, 1])
    clips = [song.clips[int(rng.integers(len(song.clips)))] for song in songs]
    drawn = [draw_style(np.random.default_rng([seed, 2, i]), effects) for i in range(styles)]
    items = tuple((clip, style) for style in drawn for clip in clips)
    return Part("content_hard", items, tuple(range(len(songs))) * styles)


class _Rendering(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Mixed stems and, where they are computed on the CPU, their descriptors."""

    def __init__(self, cache: StemCache, part: Part, describe_here: bool) -> None:
        self.cache, self.part, self.describe_here = cache, part, describe_here

    def __len__(self) -> int:
        return len(self.part.items)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        clip, style = self.part.items[place]
        stems = torch.from_numpy(apply_remix(self.cache.read_clip(clip), style))
        return stems, describe(stems[None])[0] if self.describe_here else torch.empty(0)


def embedded(
    settings: Settings, cache: StemCache, part: Part, rows: Sequence[Row], device: torch.device, advance: Any
) -> dict[str, NDArray[np.float32]]:
    """Embeddings [clips, E] by row, kept in the folder when they are done."""
    options = settings.evaluate
    path = options.evaluate_dir / f"{part.name}.npz"
    if path.is_file():
        with np.load(path) as kept:
            if set(kept.files) == {row.name for row in rows}:
                advance(len(part.items))
                return {name: kept[name] for name in kept.files}
    found: dict[str, list[NDArray[np.float32]]] = {row.name: [] for row in rows}
    for clips in _batches(cache, part, device, options.batch_clips, options.workers):
        with torch.inference_mode():
            for row in rows:
                found[row.name].append(row.of(clips).float().cpu().numpy())
        advance(len(clips.stems))
    joined = {name: np.concatenate(values) for name, values in found.items()}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **joined)
    return joined


def _batches(cache: StemCache, part: Part, device: torch.device, size: int, workers: int) -> Iterator[Clips]:
    here = device.type == "cpu"
    if workers and here:
        describe(torch.zeros(1, len(STEMS), 2, SAMPLE_RATE))  # what forked workers then have
    loader = DataLoader(
        _Rendering(cache, part, here),
        batch_size=size,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    for stems, descriptors in loader:
        yield Clips(stems, descriptors if here else None).to(device)


def _comparable(embeddings: NDArray[np.float32], name: str) -> NDArray[np.float64]:
    """Unit vectors; of rows whose dimensions have units, after z-scoring them over all clips of the part."""
    values = np.asarray(embeddings, np.float64)
    if name in Z_SCORED:
        scale = values.std(0)
        values = (values - values.mean(0)) / np.where(scale > 0, scale, 1.0)
    return unit(values)


def retrieval_of(embeddings: NDArray[np.float32], part: Part, name: str) -> dict[str, float]:
    """R@1, 5 and 10, mean and median rank and MRR of queries (the first half) in the pool (the second)."""
    queries, pool = np.split(_comparable(embeddings, name), 2)
    rank = ranks(queries, pool, np.arange(len(pool)))
    songs = np.array(part.songs[: len(queries)])
    found: dict[str, float] = {}
    for k in (1, 5, 10):
        estimate = bootstrap_groups(hits(rank, k), songs)
        found |= {f"r{k}": estimate.value, f"r{k}_low": estimate.low, f"r{k}_high": estimate.high}
    return found | {
        "mean_rank": float(rank.mean()),
        "median_rank": float(np.median(rank)),
        "mrr": float((1 / rank).mean()),
        "chance_r1": 1 / len(pool),
    }


def hard_of(embeddings: NDArray[np.float32], part: Part, styles: int, name: str) -> dict[str, float]:
    """Share of queries whose nearest of `styles` candidates is the other content in their own style."""
    grid = _comparable(embeddings, name).reshape(styles, -1, embeddings.shape[1])
    rng = np.random.default_rng(0)
    right, songs = [], []
    count = grid.shape[1]
    for style in range(styles):
        for song in range(count):
            other = (song + 1 + int(rng.integers(count - 1))) % count
            wrong = np.delete(grid[:, song], style, axis=0) @ grid[style, song]
            right.append(float(grid[style, other] @ grid[style, song] > wrong.max()))
            songs.append(song)
    estimate = bootstrap_groups(np.array(right), np.array(songs))
    return {"r1": estimate.value, "r1_low": estimate.low, "r1_high": estimate.high, "chance_r1": 1 / styles}


def show(metrics: dict[str, Any], names: Sequence[str]) -> None:
    """The table: R@1 by the number of effects, and content-hard."""
    numbers = list(metrics["same_chain"])
    table = Table("R@1, %", title="same chain, different content, by number of effects", title_justify="left")
    for title in (*numbers, "content-hard"):
        table.add_column(title, justify="right")
    for name in names:
        cells = [_percent(metrics["same_chain"][n][name]) for n in numbers]
        table.add_row(name, *cells, _percent(metrics["content_hard"][name]))
    chance = [next(iter(metrics["same_chain"][n].values()))["chance_r1"] for n in numbers]
    hard = next(iter(metrics["content_hard"].values()))["chance_r1"]
    table.add_row("chance", *(f"{100 * value:.1f}" for value in (*chance, hard)))
    Console(width=None if Console().is_terminal else 120).print(table)


def _percent(entry: dict[str, float]) -> str:
    return f"{100 * entry['r1']:.1f} [{100 * entry['r1_low']:.0f}, {100 * entry['r1_high']:.0f}]"
