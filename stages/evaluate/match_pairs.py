"""`mixstyle evaluate-match`: what a match is worth, on songs whose true stems are known.

Paired: the same clip under two effect chains. The one mix is brought to the other, and what comes out is compared with
what it should be, sample by sample in time. Rows: nothing done; loudness alone; the match on the true stems as they
were processed; and on stems that are separated from the two mixes, as it is used. All rows but the first are at the
reference's loudness.

`metrics.json` (version 1): settings, and for each row the distance of each pair, its mean over pairs and a 95% interval
by resampling songs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.cache.music.listing import list_tracks
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors.loudness import integrated_loudness
from mixstyle.pipeline.matching.desk import FULL, GENTLE, Bounds
from mixstyle.pipeline.matching.distance import mrstft
from mixstyle.pipeline.matching.estimate import estimate
from mixstyle.pipeline.matching.profile import measure_profile
from mixstyle.pipeline.matching.render import SongRunner
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import progress, say
from mixstyle.stages.common.separators import configured_separator, is_small
from mixstyle.stages.evaluate.tasks.rendered_songs import true_clip
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.settings.profile import Settings

VERSION = 1
AS_IS, LOUDNESS, TRUE_STEMS, SEPARATED = "as it is", "loudness only", "match, true stems", "match, separated stems"
CLIP_S = 10.0


@dataclass(frozen=True)
class Pair:
    """The stems [4, 2, T] of one clip as they were mixed, and as they should be. song: a number."""

    song: int
    mine: Tensor
    wanted: Tensor


def evaluate_match(
    stems: Path,
    output: Path,
    settings: Settings,
    *,
    pairs: int = 50,
    effects: int = 4,
    separate: bool = True,
    clip_s: float = CLIP_S,
) -> dict[str, Any]:
    """Measures on a folder of songs with true stems, prints a table and writes `output/metrics.json`; its content.

    effects: of each chain. separate: the row of separated stems too. Raises MixstyleError for fewer than two
    songs, and for what cannot be read or written.
    """
    if pairs < 1 or not 0 <= effects <= len(EFFECTS):
        told = f"--pairs {pairs} --effects {effects}: should be 1 or more, and 0 to {len(EFFECTS)}"
        raise MixstyleError(told, code="bad-option")
    if not stems.is_dir():
        raise MixstyleError(f"{stems}: no such folder", code="not-found")
    check_folder(output)
    songs = sorted(list_tracks(stems, "stems").sizes)
    if len(songs) < 2:
        raise MixstyleError(f"{stems}: {len(songs)} songs with stems, and 2 are needed", code="no-music")
    separator = configured_separator(settings.separate, resolve_device(settings.separate.device)) if separate else None
    found: dict[str, list[float]] = {}
    places = []
    with progress("evaluate-match", pairs, "pairs") as bar:
        for number in range(pairs):
            pair = draw_pair(stems, songs, settings.evaluate.seed, number, effects, round(clip_s * SAMPLE_RATE))
            for row, distance in distances(pair, separator).items():
                found.setdefault(row, []).append(distance)
            places.append(pair.song)
            bar.advance()
    metrics = {
        "version": VERSION,
        "songs": len(set(places)),
        "pairs": pairs,
        "effects": effects,
        "clip_s": clip_s,
        "seed": settings.evaluate.seed,
        "separator": separator.fingerprint if separator else None,
        "mrstft": {row: _figures(values, places, found[AS_IS]) for row, values in found.items()},
    }
    write_json(output / "metrics.json", metrics)
    _show(metrics)
    say(f"evaluate-match: wrote {output / 'metrics.json'}")
    return metrics


def draw_pair(root: Path, songs: list[str], seed: int, number: int, effects: int, frames: int) -> Pair:
    """Pair `number`: a clip of a song under two drawn chains.

    Raises MixstyleError (bad-audio) for a song too short.
    """
    rng = np.random.default_rng([seed, 9, effects, number])
    place = number % len(songs)
    audio = true_clip(root, songs[place], frames, seed=number).read()
    mine, wanted = (torch.from_numpy(apply_mix_chain(audio, draw_chain(rng, effects))) for _ in range(2))
    return Pair(place, mine, wanted)


def distances(pair: Pair, separator: Separator | None) -> Mapping[str, float]:
    """How far each row is from what it should be (`mrstft`)."""
    mix, wanted = pair.mine.sum(0), pair.wanted.sum(0)
    made = {AS_IS: mix, LOUDNESS: _at_loudness(mix, wanted)}
    made[TRUE_STEMS] = _matched(mix, pair.mine, pair.wanted, wanted, FULL)
    if separator is not None:
        mine, reference = separator.separate([mix, wanted])
        made[SEPARATED] = _matched(mix, mine, reference, wanted, GENTLE if is_small(separator) else FULL)
    return {row: mrstft(audio, wanted) for row, audio in made.items()}


def _matched(mix: Tensor, mine: Tensor, reference: Tensor, wanted: Tensor, bounds: Bounds) -> Tensor:
    """A mix brought to another by its stems, at its loudness."""
    strips = estimate(measure_profile([mine]), measure_profile([reference]), bounds=bounds).strips
    made, _ = SongRunner(strips).run(mix.numpy(), mine.numpy())
    return _at_loudness(torch.from_numpy(made), wanted)


def _at_loudness(audio: Tensor, wanted: Tensor) -> Tensor:
    found, goal = integrated_loudness(torch.stack([audio, wanted]), SAMPLE_RATE).tolist()
    return audio * 10 ** ((goal - found) / 20)


def _figures(values: list[float], places: list[int], as_is: list[float]) -> dict[str, Any]:
    numbers, groups = np.array(values), np.array(places)
    mean = bootstrap_groups(numbers, groups)
    less: NDArray[np.float64] = 1 - numbers / np.maximum(np.array(as_is), 1e-9)
    nearer = bootstrap_groups((less > 0).astype(np.float64), groups)
    return {
        "mean": round(mean.value, 4),
        "low": round(mean.low, 4),
        "high": round(mean.high, 4),
        "nearer_share": round(nearer.value, 4),
        "less_than_as_it_is": round(1 - float(numbers.mean()) / max(float(np.mean(as_is)), 1e-9), 4),
        "pairs": [round(value, 5) for value in values],
    }


def _show(metrics: Mapping[str, Any]) -> None:
    say(f"{metrics['pairs']} pairs of {metrics['songs']} songs, chains of {metrics['effects']} effects")
    say(f"{'':24} {'MRSTFT':>8}  {'95% interval':16} {'less':>6} {'pairs nearer':>13}")
    for row, one in metrics["mrstft"].items():
        between = f"[{one['low']:.3f}, {one['high']:.3f}]"
        say(f"{row:24} {one['mean']:8.3f}  {between:16} {one['less_than_as_it_is']:6.0%} {one['nearer_share']:13.0%}")
    if told := evidence_note(metrics["songs"]):
        say(told)
