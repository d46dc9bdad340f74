"""`mixstyle evaluate`: does an embedding know how music was mixed, whatever the music is?

On held-out songs alone, all of it seeded. What is rendered for which question stands in
`mixstyle.stages.evaluate.tasks`, what is measured in `evaluate_measures`; embeddings are kept as each part is done.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from mixstyle.cache.models.checkpoints import BEST
from mixstyle.cache.stem_store.stem_cache import CachedClip, CachedTrack, StemCache
from mixstyle.cache.storage.atomic import atomic_write, locked, sha256_file, write_json
from mixstyle.cache.storage.fingerprint import differences, guard, read_settings
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.evaluate import metrics as measures
from mixstyle.stages.evaluate import tasks as parts
from mixstyle.stages.evaluate.models import Clips, EncoderRow, Row, rows_of
from mixstyle.stages.evaluate.page import write_page
from mixstyle.stages.evaluate.tables import show
from mixstyle.stages.evaluate.tasks import Part, Separate
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.settings.profile import Settings, plain

METRICS, SETTINGS, PAGE = "metrics.json", "settings.json", "evaluation.html"
NEUTRAL = ("evaluate_dir", "device", "batch_clips", "workers", "parts")
MOST_CHANGED = 24
"""Songs whose robustness is measured: their stems, changed in every way, are held in memory."""

Embedded = dict[str, NDArray[np.float32]]
"""[clips, E] by row."""
Measure = Callable[[NDArray[np.float32], Part, str], Any]
"""A row's figures, from its embeddings of a part and its name."""


def evaluate(settings: Settings, rebuild: bool = False) -> dict[str, Any]:
    """Measures, prints tables, writes metrics.json and a page, and returns the metrics; goes on where it was stopped.

    Raises MixstyleError where stems, descriptors or checkpoints are missing or do not fit.
    """
    options, folder = settings.evaluate, settings.evaluate.evaluate_dir
    cache, _ = open_described_stems(settings)
    for name in ("effects", "hard_effects"):
        if not 1 <= np.max(getattr(options, name)) <= len(EFFECTS):
            raise MixstyleError(f"evaluate.{name}={getattr(options, name)}: there are {len(EFFECTS)} effects")
    checkpoints = list(options.checkpoints) or [settings.train.checkpoint_dir / BEST]
    missing = next((path for path in checkpoints if not path.is_file()), None)
    if missing is not None:
        raise MixstyleError(f"{missing}: no such checkpoint; run `mixstyle train` first")
    device = resolve_device(options.device)
    rows = rows_of(checkpoints, options.models, device)
    songs = some_of(held_out(cache, rows), options.songs, options.seed)
    asked = questions(settings, cache, songs)
    with locked(folder, "mixstyle evaluate"):
        shaping = {name: value for name, value in plain(options).items() if name not in NEUTRAL}
        made_from = {"stems": cache.fingerprint, "checkpoints": [sha256_file(path) for path in checkpoints]}
        made_with = {**shaping, "made_from": made_from}
        outputs = [folder / METRICS, folder / PAGE, *folder.glob("*.npz"), *folder.glob("*.png")]
        if _of_others(folder, made_with):
            say("evaluate: the encoders or the stems are others than before: measured anew")
            rebuild = True
        guard(folder / SETTINGS, made_with, stage="evaluate", rebuild=rebuild, remove=outputs)
        total = sum(len(part) for part, _ in asked)
        say(f"evaluate: {len(songs)} held-out songs, {total} clips to embed, {len(rows)} rows, on {device}")
        metrics: dict[str, Any] = {"songs": len(songs), "styles": options.styles, "rows": [row.name for row in rows]}
        kept: Embedded = {}
        with progress("evaluate", total, "clips") as bar:
            for part, measure in asked:
                found = embedded(settings, cache, part, rows, device, bar.advance)
                _put(metrics, part.name, {row.name: measure(found[row.name], part, row.name) for row in rows})
                if part.name == "content_hard":
                    kept = found
                    leak = partial(measures.leakage_of, styles=options.hard_styles)
                    metrics["leakage"] = {row.name: leak(found[row.name], part, name=row.name) for row in rows}
        metrics = json.loads(json.dumps(metrics))
        write_json(folder / METRICS, metrics)
        show(metrics)
        write_page(folder / PAGE, metrics, kept, options.hard_styles)
    say(f"evaluate: wrote {folder / METRICS} and {folder / PAGE}")
    return metrics


def _of_others(folder: Path, made_with: Mapping[str, Any]) -> bool:
    """Whether the folder's figures were asked for in the same way, and are of other encoders or stems."""
    if not (folder / SETTINGS).is_file():
        return False
    changed = {line.partition(":")[0] for line in differences(read_settings(folder / SETTINGS), made_with)}
    return bool(changed) and all(name.startswith("made_from") for name in changed)


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


def some_of(songs: Sequence[CachedTrack], most: int, seed: int) -> list[CachedTrack]:
    """At most that many songs, in their order."""
    chosen = np.random.default_rng([seed, 8]).permutation(len(songs))[:most]
    return [songs[int(place)] for place in sorted(chosen)]


def questions(settings: Settings, cache: StemCache, songs: Sequence[CachedTrack]) -> list[tuple[Part, Measure]]:
    """What is to be rendered, and what is measured of it."""
    options = settings.evaluate
    hard = partial(measures.hard_of, styles=options.hard_styles)

    def separate() -> Separate:
        return parts.separate_with(configured_separator(settings.separate, resolve_device(options.device)))

    asked: list[tuple[Part, Measure]] = []
    for name in dict.fromkeys(options.parts):
        if name in ("robustness", "fingerprint") and settings.separate.input == "stems":
            say(f"evaluate: {name} is left out: it needs a separator, and separate.input is stems")
        elif name == "same-chain":
            made = [parts.same_chain(songs, n, options.styles, options.seed) for n in options.effects]
            asked += [(part, measures.retrieval_of) for part in made]
        elif name == "content-hard":
            grid = parts.content_hard(songs, options.hard_styles, options.hard_effects, options.seed)
            asked.append((grid, lambda x, part, row: hard(x, part, name=row)))
        elif name == "presets":
            asked.append((parts.presets(songs, options.preset_clips, options.seed), measures.presets_of))
        elif name == "parameters":
            asked.append((parts.parameters(songs, options.parameter_clips, options.seed), measures.parameters_of))
        elif name == "songs":
            asked.append((parts.ends(songs), measures.retrieval_of))
        elif name == "robustness":
            few = songs[:MOST_CHANGED]
            part = parts.robustness(cache, few, separate, options.seed, options.hard_effects)
            asked.append((part, measures.robustness_of))
        elif options.rendered_dir is not None:
            clip_s, styles, effects = cache.clip_frames / SAMPLE_RATE, options.styles, options.hard_effects
            part = parts.fingerprint(options.rendered_dir, separate, clip_s, effects, styles, options.seed)
            asked.append((part, measures.fingerprint_of))
    return asked


def _put(metrics: dict[str, Any], name: str, values: dict[str, Any]) -> None:
    """Places a part's figures: those of one number of effects below `same_chain`."""
    if name.startswith("same_chain_"):
        metrics.setdefault("same_chain", {})[name.removeprefix("same_chain_")] = values
    else:
        metrics[name] = values


class _Rendering(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Mixed stems and, where they are computed on the CPU, their descriptors."""

    def __init__(self, cache: StemCache, part: Part, describe_here: bool) -> None:
        self.cache, self.items, self.describe_here = cache, part.items, describe_here

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[torch.Tensor, torch.Tensor]:
        source, remix = self.items[place]
        read = self.cache.read_clip(source) if isinstance(source, CachedClip) else source
        stems = torch.from_numpy(apply_mix_chain(read, remix))
        return stems, describe(stems[None])[0] if self.describe_here else torch.empty(0)


def embedded(
    settings: Settings, cache: StemCache, part: Part, rows: Sequence[Row], device: torch.device, advance: Any
) -> Embedded:
    """Embeddings [clips, E] by row, kept in the folder when they are done."""
    options = settings.evaluate
    path = options.evaluate_dir / f"{part.name}.npz"
    if path.is_file():
        with np.load(path) as kept:
            if set(kept.files) == {row.name for row in rows}:
                advance(len(part))
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
