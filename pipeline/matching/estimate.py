"""What to set on each stem so that a mix is balanced, equalised, panned and as wide as another one: in closed form.

Each stem that both mixes have is compared with its like. Octaves are compared against the stem's own power, so that a
quieter stem is no duller one; the left-right balance after that equaliser; mid against side in three bands after that
pan; and at last loudness against the mix, after all of it, by K-weighted power. Every value is bounded, scaled by
`amount`, rounded as a desk shows it, and left at nothing where it would be inaudible.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import FULL, WIDTH_EDGES_HZ, Bounds, Strip, pan_of
from mixstyle.pipeline.matching.equaliser import filters_db, fit_filters, settled
from mixstyle.pipeline.matching.profile import (
    TINY,
    MixProfile,
    StemPower,
    band_points_hz,
    k_weights,
    octave_sums,
)

Floats = NDArray[np.float64]

OCTAVE_FLOOR_DB = -40.0
"""An octave this far below the whole stem, or further, holds bleed and noise: nothing there is raised."""
RAISED_FROM_DB = 10.0
"""Above the floor by so much, an octave (on the mix, a third octave) may be raised in full; between, in proportion."""
NARROWEST_DB = 25.0
"""A side this far below the middle is not there: it is not raised, and no reference asks for less."""
LEAST_GAIN_DB = 0.1
LEAST_PAN_DB = 0.3
LEAST_SIDE_DB = 0.3
"""Changes below these are left out; all are below what listeners tell in music."""
ROUNDS = 6


@dataclass(frozen=True)
class Estimate:
    """strips: what to set on each stem, in the order of `STEMS`. notes: what was left alone, and why."""

    strips: tuple[Strip, ...]
    notes: tuple[str, ...]


def estimate(
    mine: MixProfile,
    reference: MixProfile,
    amount: float = 1.0,
    keep: Collection[str] = (),
    bounds: Bounds = FULL,
) -> Estimate:
    """What brings a mix to a reference. amount: 0 to 1, of each change. keep: stems that stay as they are.

    A stem that one of the two has not stays as it is. Raises ValueError for an amount or a stem that there is not.
    """
    if not 0 <= amount <= 1:
        raise ValueError(f"amount={amount} should be between 0 and 1")
    if unknown := set(keep) - set(STEMS):
        raise ValueError(f"keep: no stem {', '.join(sorted(unknown))}")
    both = mine.present & reference.present
    moved = [place for place, stem in enumerate(STEMS) if both[place] and stem not in keep]
    stereo = not (mine.mono or reference.mono)
    amount *= bounds.share
    made = {place: shaped(mine.stems[place], reference.stems[place], amount, bounds, stereo=stereo) for place in moved}
    wanted = _balance(mine, reference, moved, [p for p, stem in enumerate(STEMS) if both[p] and stem in keep])
    strips, limited = [], []
    for place, stem in enumerate(STEMS):
        if place not in made:
            strips.append(Strip())
            continue
        strip, louder_db = made[place]
        asked = amount * wanted[place] - louder_db
        gain_db = _rounded(float(np.clip(asked, -bounds.gain_db, bounds.gain_db)), LEAST_GAIN_DB)
        if abs(asked) > bounds.gain_db:
            limited.append(f"{stem}: {asked:+.1f} dB would be needed, and {gain_db:+.1f} dB is the bound")
        strips.append(replace(strip, gain_db=gain_db))
    return Estimate(tuple(strips), (*_notes(mine, reference), *limited))


def _notes(mine: MixProfile, reference: MixProfile) -> list[str]:
    """What is left alone because of what the two mixes are."""
    notes = []
    for stem, here, there in zip(STEMS, mine.present, reference.present, strict=True):
        if here and not there:
            notes.append(f"{stem}: the reference has none, so it is left unchanged")
        elif there and not here:
            notes.append(f"{stem}: this song has none, so it stays as it is; the reference has some")
    if mine.mono or reference.mono:
        whose = "this song is" if mine.mono else "the reference is"
        notes.append(f"{whose} mono: pan and width stay as they are")
    return notes


def shaped(
    mine: StemPower, reference: StemPower, amount: float, bounds: Bounds, *, stereo: bool
) -> tuple[Strip, float]:
    """Equaliser, pan and width of one stem, and by how much they make it louder, in dB. amount: share and all."""
    target_db, weight = equaliser_target(mine, reference)
    fitted = fit_filters(mine.total, target_db, weight, bounds.filter_db)
    filters = settled(fitted, amount, bounds.share * bounds.filter_db)
    equalised = mine.equalised(filters_db(filters))
    strip = Strip(filters)
    if stereo:
        strip = _placed(strip, equalised, reference, amount, bounds)
    power = equalised.panned(*strip.pan_gains).widened(side_db(strip))
    weights = k_weights()
    before, after = (float((one.total * weights).sum()) for one in (mine, power))
    return strip, float(10 * np.log10(max(after, TINY) / max(before, TINY)))


def equaliser_target(mine: StemPower, reference: StemPower) -> tuple[Floats, Floats]:
    """By how much octaves should move, and what each counts: [octaves] each.

    Octaves where the stem has nothing are not raised, and those that both have not do not count.
    """
    here, there = (_octaves_db(power.total) for power in (mine, reference))
    difference = np.maximum(there, OCTAVE_FLOOR_DB) - np.maximum(here, OCTAVE_FLOOR_DB)
    may_rise = np.clip((here - OCTAVE_FLOOR_DB) / RAISED_FROM_DB, 0, 1)
    target = np.where(difference > 0, difference * may_rise, difference)
    loudest = np.maximum(here, there)
    return target, np.clip((loudest - OCTAVE_FLOOR_DB) / RAISED_FROM_DB, 0, 1)


def side_db(strip: Strip) -> Floats:
    """What a strip's width gives the side signal in each third octave, in dB."""
    gain_db, shelves = strip.side_filters
    return gain_db + filters_db(shelves)


def _placed(strip: Strip, power: StemPower, reference: StemPower, amount: float, bounds: Bounds) -> Strip:
    """A strip with pan and width. Each moves what the other is told by, so that both are found in turn."""
    start_db = power.level_difference_db
    goal_db = start_db + amount * float(
        np.clip(reference.level_difference_db - start_db, -bounds.pan_db, bounds.pan_db)
    )
    pan_db = 0.0
    for _ in range(ROUNDS):
        panned = replace(strip, pan_percent=pan_of(pan_db))
        moved = power.panned(*panned.pan_gains)
        placed = replace(panned, side_db=_width(moved, reference, amount, bounds))
        error_db = goal_db - moved.widened(side_db(placed)).level_difference_db
        pan_db = float(np.clip(pan_db + error_db, -bounds.pan_db, bounds.pan_db))
    pan = round(pan_of(pan_db)) if abs(pan_db) >= LEAST_PAN_DB else 0
    panned = replace(strip, pan_percent=float(pan))
    width = _width(power.panned(*panned.pan_gains), reference, amount, bounds)
    low, mid, high = (_rounded(value, LEAST_SIDE_DB) for value in width)
    return replace(panned, side_db=(low, mid, high))


def _width(power: StemPower, reference: StemPower, amount: float, bounds: Bounds) -> tuple[float, float, float]:
    """Gains of the side in three bands. Where a band is empty or has no side it stays; the lowest is never widened.

    The side is what is left of it without the part that goes with the middle: that is a source off the centre, and the
    pan's. Widened, it would only be farther off.
    """
    hz = band_points_hz().mean(1)
    edges = (0.0, *WIDTH_EDGES_HZ, np.inf)
    gains = []
    for low, high in pairwise(edges):
        band = (hz >= low) & (hz < high)
        levels = [_level_db(one.total[band].sum(), one.total.sum()) for one in (power, reference)]
        ratios = [_level_db(one.mid[band].sum(), one.own_side[band].sum()) for one in (power, reference)]
        if min(levels) < OCTAVE_FLOOR_DB or ratios[0] > NARROWEST_DB:
            gains.append(0.0)
            continue
        change = ratios[0] - min(ratios[1], NARROWEST_DB)
        gains.append(amount * float(np.clip(change, -bounds.side_db, 0.0 if low == 0 else bounds.side_db)))
    return gains[0], gains[1], gains[2]


def _level_db(power: float, against: float) -> float:
    return float(10 * np.log10(max(power, TINY) / max(against, TINY)))


def _balance(mine: MixProfile, reference: MixProfile, moved: Sequence[int], kept: Sequence[int]) -> Floats:
    """By how much each stem's loudness should move [4], in LU.

    Stems that are kept stay where they are, and the others come to them. Where none is kept, the moved stems together
    stay as loud as they were, so that a stem that only one of the mixes has keeps its place too.
    """
    wanted = reference.relative_lu - mine.relative_lu
    anchors = list(kept or moved)
    if not anchors:
        return np.zeros(len(STEMS))
    power = 10 ** (mine.relative_lu[anchors] / 10)
    if kept:
        offset = float(np.average(wanted[anchors], weights=power))
    else:
        offset = float(10 * np.log10((power * 10 ** (wanted[anchors] / 10)).sum() / power.sum()))
    return wanted - offset


def _octaves_db(power: Floats) -> Floats:
    """Octaves against the whole, in dB."""
    octaves = octave_sums(power)
    return 10 * np.log10(np.maximum(octaves, TINY) / max(float(octaves.sum()), TINY))


def _rounded(value: float, least: float) -> float:
    """To 0.1; 0 below the least that is worth setting."""
    found = round(value, 1)
    return found if abs(found) >= least else 0.0
