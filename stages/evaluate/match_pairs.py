"""`mixstyle evaluate-match`: what a match is worth, on songs whose true stems are known.

Paired: the same clip under two effect chains. The one mix is brought to the other, and what comes out is compared with
what it should be, sample by sample in time, by descriptors, and by what an engineer sets. Unpaired: the reference is
another song under another chain; what comes out is compared by descriptors, and by an encoder that no row goes by
(`JUDGE`). The rows are those of `match_rows`.

`metrics.json` (version 3): settings and inputs, and for each task, row and measure the value of each pair, their mean
and a 95% interval by resampling songs. `pairs.json` (`match_results`) holds what was measured so far, so that a run
goes on where it was stopped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.music.listing import list_folder
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.urls import not_there
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.device import resolve_device
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common import limits
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.common.progress import progress, remark, say
from mixstyle.stages.common.separators import configured_separator, is_small
from mixstyle.stages.evaluate.match_results import COUNTS, KeptPairs, Values, match_provenance
from mixstyle.stages.evaluate.match_rows import AS_IS, JUDGE, ROWS, Pair, Tools, has_matchering, paired, rows, unpaired
from mixstyle.stages.evaluate.tasks.rendered_songs import true_clip
from mixstyle.stages.presentation.estimates import evidence_note
from mixstyle.stages.separate.tuned_streams import tuned_separation
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file
from mixstyle.stages.songs.match.metric import metric_of_file

VERSION = 3
CLIP_S = 10.0
LEAST_CLIP_S = 0.4
"""Loudness is measured over as much (ITU-R BS.1770-4)."""
UNITS = {
    "mrstft": "MRSTFT",
    "descriptors": "descriptors",
    "cosine": "cosine",
    "balance_lu": "balance, LU",
    "octaves_db": "octaves, dB",
    "left_right_db": "left/right, dB",
    "width_db": "width, dB",
    "crest_db": "crest, dB",
}


@dataclass(frozen=True)
class MatchTask:
    """What is measured. pairs, unpaired: how many of each. effects: of each chain. separate, search: whether there are
    the rows of separated stems, and of a search. clip_s: of each clip. Raises MixstyleError (bad-option)."""

    pairs: int = 50
    unpaired: int = 0
    effects: int = 4
    separate: bool = True
    search: bool = False
    clip_s: float = CLIP_S

    def __post_init__(self) -> None:
        for name, least, most in (
            ("pairs", 1, limits.CHAINS),
            ("unpaired", 0, limits.CHAINS),
            ("effects", 0, len(EFFECTS)),
            ("clip_s", LEAST_CLIP_S, limits.CLIP_S),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                told = f"--{name.replace('_', '-')} {value}: should be {least:g} to {most}"
                raise MixstyleError(told, code="bad-option")


def evaluate_match(stems: Path, output: Path, settings: Settings, task: MatchTask) -> dict[str, Any]:
    """Measures on a folder of songs with true stems, prints tables and writes `output/metrics.json`; its content.

    Raises MixstyleError for fewer than two songs, and for what cannot be read or written.
    """
    if not stems.is_dir():
        raise not_there(stems, "folder")
    check_folder(output)
    sizes = list_folder(stems, "stems").sizes
    songs = sorted(sizes)
    if len(songs) < 2:
        raise MixstyleError(f"{stems}: {counted(len(songs), 'song')} with stems, and 2 are needed", code="no-music")
    device = resolve_device(settings.separate.device)
    separator = configured_separator(settings.separate, device) if task.separate else None
    tools = _tools(settings, task, separator)
    if not has_matchering():
        remark("evaluate-match: the package matchering is not installed; its row is left out (pip install matchering)")
    seed, frames = settings.evaluate.seed, round(task.clip_s * SAMPLE_RATE)
    asked = {name: value for name, value in asdict(task).items() if name not in COUNTS.values()}
    made_from = match_provenance(stems, sizes, settings, asked, separator)
    kept = KeptPairs(output / "pairs.json", made_from)
    with progress("evaluate-match", task.pairs + task.unpaired, "pairs") as bar:
        try:
            for name, draw, measure in (("paired", draw_pair, paired), ("unpaired", draw_unpaired, unpaired)):
                for number in range(getattr(task, COUNTS[name])):
                    if not kept.has(name, number):
                        pair = draw(stems, songs, seed, number, task.effects, frames)
                        kept.add(name, number, pair.song, measure(pair, rows(pair, tools), tools))
                    bar.advance()
        finally:
            kept.write()
    metrics = {
        "version": VERSION,
        **made_from.flat,
        "songs": len(songs),
        **{name: _figures(kept.of(name, getattr(task, COUNTS[name]))) for name in COUNTS},
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
    chains = [draw_chain(rng, effects) for _ in range(2)]
    mine, wanted = (torch.from_numpy(apply_mix_chain(audio, chain)) for chain in chains)
    return Pair(place, mine, wanted, chains[1])


def draw_unpaired(root: Path, songs: list[str], seed: int, number: int, effects: int, frames: int) -> Pair:
    """Pair `number`: a clip of a song under one drawn chain, and one of another song under another."""
    rng = np.random.default_rng([seed, 10, effects, number])
    place = number % len(songs)
    other = (place + 1 + int(rng.integers(len(songs) - 1))) % len(songs)
    clips = (true_clip(root, songs[one], frames, seed=number).read() for one in (place, other))
    mine, wanted = (torch.from_numpy(apply_mix_chain(clip, draw_chain(rng, effects))) for clip in clips)
    return Pair(place, mine, wanted)


def _tools(settings: Settings, task: MatchTask, separator: Separator | None) -> Tools:
    separate = tuned_separation(settings.separate, separator) if separator is not None else None
    small = separator is not None and is_small(separator)
    judge = load_encoder(shipped(JUDGE)) if task.unpaired else None
    return Tools(separate, small, metric_of_file(encoder_file(settings)), task.search, judge)


def _figures(pairs: Sequence[tuple[int, Values]]) -> dict[str, dict[str, Any]]:
    """By row and measure."""
    if not pairs:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for row in (row for row in ROWS if row in pairs[0][1]):
        for measure in (measure for measure in UNITS if measure in pairs[0][1][row]):
            # a pair without a stem in common has no error of it
            having = [
                (song, values[row][measure], values[AS_IS].get(measure, np.nan))
                for song, values in pairs
                if np.isfinite(values[row].get(measure, np.nan))
            ]
            if having:
                found.setdefault(row, {})[measure] = _figure(having, higher=measure == "cosine")
    return found


def _figure(having: Sequence[tuple[int, float, float]], *, higher: bool) -> dict[str, Any]:
    """higher: whether more is nearer."""
    songs, values, before = (np.array(one) for one in zip(*having, strict=True))
    mean = bootstrap_groups(values, songs)
    less = (values > before) if higher else (values < before)
    return {
        "mean": round(mean.value, 4),
        "low": round(mean.low, 4),
        "high": round(mean.high, 4),
        "nearer_share": round(float(less.mean()), 4),
        "less_than_as_it_is": round(1 - float(values.mean()) / max(float(before.mean()), 1e-9), 4),
        "pairs": [round(float(value), 5) for value in values],
    }


def _show(metrics: Mapping[str, Any]) -> None:
    for name in COUNTS:
        if not metrics[name]:
            continue
        count = len(next(iter(metrics[name][AS_IS].values()))["pairs"])
        say(f"{name}: {count} pairs of {metrics['songs']} songs, chains of {metrics['effects']} effects")
        say(f"{'':34} {'':16} {'mean':>8}  {'95% interval':16} {'less':>6} {'pairs nearer':>13}")
        for row, measures in metrics[name].items():
            for measure, one in measures.items():
                between = f"[{one['low']:.3f}, {one['high']:.3f}]"
                less = "" if measure == "cosine" else f"{one['less_than_as_it_is']:.0%}"
                told = f"{one['mean']:8.3f}  {between:16} {less:>6} {one['nearer_share']:13.0%}"
                say(f"{row:34} {UNITS[measure]:16} {told}")
    if told := evidence_note(metrics["songs"]):
        say(told)
