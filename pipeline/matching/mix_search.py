"""Effects for all stems of a mix: found stem by stem, and chosen by what is heard of the mix.

`effect_search` finds what each stem would need. Here the closed form follows for the stems as they come out of their
effects, and what the whole comes to is compared: all effects, all but one stem's, one stem's alone; the closed form
without any, and nothing at all. Each is rendered on excerpts and, where there is a separator, summed and separated
again, as the reference was. What is nearest to the reference is taken. So by this measure it loses to none of them.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.descriptors.compute import Describe, describe
from mixstyle.pipeline.descriptors.song_values import song_descriptors
from mixstyle.pipeline.descriptors.table import DESCRIPTORS
from mixstyle.pipeline.matching.desk import Bounds, Strip
from mixstyle.pipeline.matching.effect_search import EVALUATIONS, Inserts, StemTask, price, search_stem
from mixstyle.pipeline.matching.estimate import Estimate, estimate
from mixstyle.pipeline.matching.inserts import run_inserts, weaker
from mixstyle.pipeline.matching.metric import DescriptorMetric
from mixstyle.pipeline.matching.profile import MixProfile, measure_profile
from mixstyle.pipeline.matching.render import SongRunner, strip_levels
from mixstyle.pipeline.matching.short_time import short_time_power

EXCERPT_S = 4.0
"""From the middle of each clip."""
ON_STEMS = 0.7
"""About so much of the time goes by on single stems, the rest on whole mixes that the small separator separates."""
NOTHING, CLOSED_FORM = "as it is", "closed form"

Clips = Sequence[Tensor]
"""A song's, [4, 2, T] each."""
Separate = Callable[[Sequence[Tensor]], Sequence[Tensor]]
"""Mixes [2, T] to their stems [4, 2, T]."""


@dataclass(frozen=True)
class MixTask:
    """A song to bring to its references. clips: its, and each reference's. profiles: of the song and of the references'
    mean. amount, keep, bounds: as `estimate` takes them. separate: how a mix is heard; None for true stems. describe:
    descriptors [B, D] of stems [B, 4, 2, T]."""

    clips: Clips
    references: Sequence[Clips]
    mine: MixProfile
    reference: MixProfile
    amount: float
    keep: Collection[str]
    bounds: Bounds
    separate: Separate | None
    describe: Describe = describe


@dataclass(frozen=True)
class Searched:
    """What is set. distances: of what was compared, by name, to the reference; with the price of its effects. chosen:
    the name of the nearest."""

    estimate: Estimate
    distances: Mapping[str, float]
    chosen: str


def search_effects(
    task: MixTask,
    closed: Estimate,
    metric: DescriptorMetric,
    seed: int = 0,
    evaluations: int = EVALUATIONS,
    told: Callable[[float], None] = lambda _: None,
) -> Searched:
    """Looks for effects. closed: what `estimate` gave. told: is called with how far it is, 0 to 1. Equal input and seed
    give equal output."""
    candidates: dict[str, tuple[Estimate, float]] = {
        NOTHING: (Estimate((Strip(),) * len(STEMS), closed.notes), 0.0),
        CLOSED_FORM: (closed, 0.0),
    }
    found = _found(task, seed, evaluations, lambda share: told(ON_STEMS * share))
    for name, inserts in combinations(found).items():
        candidates[name] = _with_effects(task, inserts), sum(price(one) for one in inserts)
    wanted = np.mean([_values(task, [excerpt(clip) for clip in clips]) for clips in task.references], axis=0)
    columns = _columns(task)
    heard = []
    for strips in (one.strips for one, _ in candidates.values()):
        heard.append(_heard(task, strips))
        told(ON_STEMS + (1 - ON_STEMS) * len(heard) / len(candidates))
    values = np.stack(heard)
    plain = metric.distances(values[:, columns], wanted[columns], columns)
    base = float(plain[1])
    distances = {
        name: round(float(distance) + base * priced, 4)
        for (name, (_, priced)), distance in zip(candidates.items(), plain, strict=True)
    }
    chosen = min(distances, key=lambda name: distances[name])
    return Searched(candidates[chosen][0], distances, chosen)


def excerpt(clip: Tensor) -> Tensor:
    """The middle of a clip [..., T]."""
    length = min(round(EXCERPT_S * SAMPLE_RATE), clip.shape[-1])
    start = (clip.shape[-1] - length) // 2
    return clip[..., start : start + length]


def combinations(found: Sequence[Inserts]) -> dict[str, list[Inserts]]:
    """Which stems' effects are tried together, by name: all of them, all but one stem's, and each stem's alone."""
    having = [place for place, inserts in enumerate(found) if inserts]
    sets = [having]
    if len(having) > 2:
        sets += [[place for place in having if place != left_out] for left_out in having]
    if len(having) > 1:
        sets += [[place] for place in having]
    return {
        f"effects on {' and '.join(STEMS[place] for place in chosen)}": [
            inserts if place in chosen else () for place, inserts in enumerate(found)
        ]
        for chosen in sets
        if chosen
    }


def _found(task: MixTask, seed: int, evaluations: int, told: Callable[[float], None]) -> list[Inserts]:
    """For each stem the effects that it would need, at the amount that is asked for."""
    both = task.mine.present & task.reference.present
    found: list[Inserts] = [()] * len(STEMS)
    searched = [place for place, stem in enumerate(STEMS) if both[place] and stem not in task.keep and task.amount > 0]
    for done, place in enumerate(searched):
        clips = [excerpt(clip)[place].numpy() for clip in task.clips]
        of_references = [[excerpt(clip)[place].numpy() for clip in clips_of] for clips_of in task.references]
        stereo = not (task.mine.mono or task.reference.mono)
        one = StemTask(clips, [short_time_power(clips_of) for clips_of in of_references], stereo)
        rng = np.random.default_rng([seed, place])
        inserts = search_stem(one, rng, evaluations, lambda share, at=done: told((at + share) / len(searched)))
        found[place] = tuple(weaker(effect, task.amount) for effect in inserts)
    return found


def _with_effects(task: MixTask, inserts: Sequence[Inserts]) -> Estimate:
    """The closed form for the stems as they come out of their effects, with these before it."""
    made = [clip.clone() for clip in task.clips]
    for place, of_stem in enumerate(inserts):
        if of_stem:
            _, clips = run_inserts(of_stem, [clip[place].numpy() for clip in task.clips])
            for clip, audio in zip(made, clips, strict=True):
                clip[place] = torch.from_numpy(np.asarray(audio, np.float32))
    profile = replace(measure_profile(made), mono=task.mine.mono)
    found = estimate(profile, task.reference, task.amount, task.keep, task.bounds)
    strips = tuple(replace(strip, inserts=of) for strip, of in zip(found.strips, inserts, strict=True))
    return Estimate(strips, found.notes)


def _heard(task: MixTask, strips: Sequence[Strip]) -> NDArray[np.float64]:
    """Descriptors of a song's excerpts through strips, as they are heard."""
    levels = strip_levels(strips, [clip.numpy() for clip in task.clips])
    made = []
    for clip in task.clips:
        stems = excerpt(clip).numpy()
        made.append(torch.from_numpy(SongRunner(strips, levels=levels).run(stems.sum(0), stems)[1]))
    return _values(task, made if task.separate is None else task.separate([stems.sum(0) for stems in made]))


def _values(task: MixTask, clips: Clips) -> NDArray[np.float64]:
    """A song's own descriptors [D] by its clips', as every command has them."""
    return song_descriptors([task.describe(stems[None])[0].numpy() for stems in clips]).astype(np.float64)


def _columns(task: MixTask) -> list[int]:
    """Descriptors of stems that both have, but for those that move with the song's level: that is set at the end."""
    both = dict(zip(STEMS, task.mine.present & task.reference.present, strict=True))
    return [column for column, d in enumerate(DESCRIPTORS) if both[d.stem] and not d.moves_with_level]
