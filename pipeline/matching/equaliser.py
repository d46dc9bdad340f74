"""A few filters of a desk that bring a stem's octaves nearest to a curve: chosen one by one, then tuned together.

The gain that a filter gives an octave depends on where in the octave the stem has its power, so it is summed over third
octaves. A constant over all octaves is free: the fader has it. The bound is that of the filters' sum at any frequency,
and filters that would take back what another gives are not set side by side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.matching.desk import Filter
from mixstyle.pipeline.matching.profile import TINY, band_points_hz, octave_sums

Floats = NDArray[np.float64]

MOST = 4
"""Filters of a stem: what the channel of a desk has."""
GOOD_ENOUGH_DB = 0.3
"""A curve met so well, as a root mean square over octaves, needs no further filter."""
WORTH_DB = 0.15
"""A filter that brings the curve no nearer than this is not worth having."""
LEAST_DB = 0.3
"""A filter of less is left out: 0.3 dB over an octave is at the threshold of what trained listeners hear in music."""
RIDGE = 0.01
"""The price of a dB of a filter, against an octave's dB of error, both squared."""
ROUNDS = 6
STEP_DB = 0.1
"""Of a filter's gain, as a desk shows it."""
HELD = 3.0
"""How strongly a sum is brought within its bound, against an octave's error."""
MOST_AGAINST_DB = 1.0
"""Filters of a stem take back no more than so much of one another at any frequency: what their skirts overlap."""
APART_OCTAVES = 0.9
"""Bells are no nearer to each other."""
_PROBE_DB = 3.0
_BELLS_HZ = (63, 90, 125, 180, 250, 350, 500, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 11_000, 16_000)


def filters_db(filters: tuple[Filter, ...], sample_rate: int = SAMPLE_RATE) -> Floats:
    """What filters in a row give each third octave, in dB [BANDS]."""
    total = np.zeros(band_points_hz().shape)
    for one in filters:
        total = total + one.response_db(band_points_hz(), sample_rate)
    return 10 * np.log10((10 ** (total / 10)).mean(1))


def total_db(filters: Sequence[Filter], sample_rate: int = SAMPLE_RATE) -> Floats:
    """The sum of filters in a row at frequencies from 20 Hz to 20 kHz, a twelfth of an octave apart, in dB."""
    return _curves_db(filters, sample_rate).sum(0)


def against_db(filters: Sequence[Filter], sample_rate: int = SAMPLE_RATE) -> float:
    """How much filters take back of one another at the frequency where it is most, in dB."""
    return _against_db(_curves_db(filters, sample_rate))


def settled(filters: Sequence[Filter], amount: float, most_db: float) -> tuple[Filter, ...]:
    """Filters at `amount` of their gains, as a desk shows them: in steps, none inaudible, their sum in bounds."""
    found = _stepped(filters, amount)
    while np.abs(total_db(found)).max(initial=0.0) > most_db:
        found = _stepped([_with_gain(one, one.gain_db - math.copysign(STEP_DB, one.gain_db)) for one in found], 1.0)
    return found


def octave_change_db(power: Floats, gain_db: Floats) -> Floats:
    """How far octaves [octaves] move when third octaves of some power [BANDS] get so many dB each."""
    floor = power + TINY
    return 10 * np.log10(octave_sums(floor * 10 ** (gain_db / 10)) / octave_sums(floor))


def fit_filters(power: Floats, target_db: Floats, weight: Floats, most_db: float) -> tuple[Filter, ...]:
    """Filters that move a stem's octaves by target_db [octaves], but for a constant.

    power: the stem's, in third octaves [BANDS]. weight: what each octave counts [octaves], 0 to 1. most_db: of each
    filter, and of their sum at every frequency. Gains are not rounded (`settled`). None where the target is a constant.
    """
    if weight.sum() <= 0:
        return ()
    responses = np.stack([octave_change_db(power, response) for response in _responses()]) / _PROBE_DB
    root = np.sqrt(weight / weight.sum())
    middle_db = float(target_db @ root**2)
    # what no filter may reach is not asked for: filters at their bounds would be set against each other
    target_db = middle_db + np.clip(target_db - middle_db, -most_db, most_db)
    chosen: list[int] = []
    gains = np.zeros(0)
    error = _error(np.zeros(0), responses[:0], target_db, root)
    while len(chosen) < MOST and error > GOOD_ENOUGH_DB:
        tries = [(place, *_solved(responses[[*chosen, place]], target_db, root)) for place in _free(chosen)]
        better = [one for one in tries if error - one[2] >= WORTH_DB]
        together = (
            one for one in sorted(better, key=lambda one: (one[2], one[0])) if _agree([*chosen, one[0]], one[1])
        )
        best = next(together, None)
        if best is None:
            break
        chosen, gains, error = [*chosen, best[0]], best[1], best[2]
    return _tuned(power, [_candidates()[place].filter for place in chosen], gains, target_db, root, most_db)


@dataclass(frozen=True)
class _Candidate:
    filter: Filter
    octave: float


@lru_cache(maxsize=1)
def _candidates() -> tuple[_Candidate, ...]:
    """Settings that a desk offers, each at _PROBE_DB."""
    low = [Filter("low shelf", hz, _PROBE_DB) for hz in (60.0, 90.0, 120.0, 180.0, 250.0, 400.0)]
    high = [Filter("high shelf", hz, _PROBE_DB) for hz in (2000.0, 3000.0, 4000.0, 6000.0, 8000.0, 12_000.0)]
    bells = [Filter("bell", hz, _PROBE_DB, q) for hz in _BELLS_HZ for q in (0.7, 1.4)]
    return tuple(_Candidate(one, float(np.log2(one.frequency_hz))) for one in (*low, *high, *bells))


@lru_cache(maxsize=1)
def _candidate_curves_db() -> Floats:
    """Of each candidate at unit gain, at the frequencies of `total_db`."""
    return _curves_db([candidate.filter for candidate in _candidates()], SAMPLE_RATE) / _PROBE_DB


@lru_cache(maxsize=1)
def _responses() -> Floats:
    return np.stack([filters_db((candidate.filter,)) for candidate in _candidates()])


def _free(chosen: list[int]) -> list[int]:
    """Candidates that may join: one shelf of a kind, bells apart."""
    candidates = _candidates()

    def fits(place: int) -> bool:
        one = candidates[place]
        for other in (candidates[taken] for taken in chosen):
            same = one.filter.kind == other.filter.kind
            if same and (one.filter.kind != "bell" or abs(one.octave - other.octave) < APART_OCTAVES):
                return False
        return True

    return [place for place in range(len(candidates)) if fits(place)]


def _agree(places: Sequence[int], gains: Floats) -> bool:
    """Whether candidates at such gains do not work against one another."""
    return _against_db(_candidate_curves_db()[list(places)] * gains[:, None]) <= MOST_AGAINST_DB


def _against_db(curves_db: Floats) -> float:
    return float((np.abs(curves_db).sum(0) - np.abs(curves_db.sum(0))).max(initial=0.0) / 2)


def _curves_db(filters: Sequence[Filter], sample_rate: int) -> Floats:
    """[filters, points]."""
    points = np.concatenate([[20.0], band_points_hz().reshape(-1)])
    return np.array([one.response_db(points, sample_rate) for one in filters]).reshape(-1, len(points))


def _with_gain(one: Filter, gain_db: float) -> Filter:
    return Filter(one.kind, one.frequency_hz, gain_db, one.q)


def _stepped(filters: Sequence[Filter], amount: float) -> tuple[Filter, ...]:
    """At `amount` of their gains, in steps; what is inaudible or works against the others is left out."""
    found = [_with_gain(one, round(amount * one.gain_db / STEP_DB) * STEP_DB) for one in filters]
    found = [_with_gain(one, round(one.gain_db, 1)) for one in found if abs(one.gain_db) > LEAST_DB - STEP_DB / 2]
    while against_db(found) > MOST_AGAINST_DB:
        found.remove(min(found, key=lambda one: abs(one.gain_db)))
    return tuple(found)


def _solved(responses: Floats, wanted_db: Floats, root: Floats, held: Floats | None = None) -> tuple[Floats, float]:
    """Gains of least squares, a constant beside them, and the error that is left.

    held: rows [n, filters + 1] of gains that should come to their last number, as strongly as can be.
    """
    rows = np.vstack([responses, np.ones(len(wanted_db))]).T * root[:, None]
    price = np.sqrt(RIDGE) * np.eye(rows.shape[1])[:-1]
    wanted = np.concatenate([wanted_db * root, np.zeros(len(price))])
    rows = np.vstack([rows, price])
    if held is not None:
        strong = np.column_stack([held[:, :-1], np.zeros(len(held))])
        rows, wanted = np.vstack([rows, HELD * strong]), np.concatenate([wanted, HELD * held[:, -1]])
    solution = np.linalg.lstsq(rows, wanted, rcond=None)[0]
    gains = np.asarray(solution[:-1], np.float64)
    return gains, _error(gains, responses, wanted_db, root)


def _error(gains: Floats, responses: Floats, wanted_db: Floats, root: Floats) -> float:
    """Weighted root mean square of what is left, about its mean, in dB."""
    left = wanted_db - (gains @ responses if len(gains) else 0.0)
    mean = float((left * root**2).sum())
    return float(np.sqrt((((left - mean) * root) ** 2).sum()))


def _beyond(filters: tuple[Filter, ...], gains: Floats, most_db: float) -> Floats | None:
    """Where the sum of filters is beyond its bound: the rows for `_solved` that bring it there."""
    curves = _curves_db(filters, SAMPLE_RATE)
    total = curves.sum(0)
    worst = [int(place) for place in (total.argmax(), total.argmin()) if abs(total[place]) > most_db]
    if not worst:
        return None
    shares = curves[:, worst].T / np.where(gains == 0, 1.0, gains)
    return np.column_stack([shares, np.sign(total[worst]) * most_db])


def _tuned(
    power: Floats, filters: list[Filter], gains: Floats, target_db: Floats, root: Floats, most_db: float
) -> tuple[Filter, ...]:
    """Gains corrected by what the filters really do: a shelf of 6 dB is not twice one of 3 dB."""

    def made(values: Floats) -> tuple[Filter, ...]:
        pairs = zip(filters, values, strict=True)
        return tuple(Filter(one.kind, one.frequency_hz, float(gain), one.q) for one, gain in pairs)

    gains = np.clip(gains, -most_db, most_db)
    for _ in range(ROUNDS if filters else 0):
        now = octave_change_db(power, filters_db(made(gains)))
        steps = np.stack(
            [octave_change_db(power, filters_db(made(gains + row))) - now for row in 0.1 * np.eye(len(gains))]
        )
        # the price is on gains, not on steps: the step is towards the gains that are wanted
        wanted = target_db - now + gains @ (steps / 0.1)
        held = _beyond(made(gains), gains, most_db)
        gains = np.clip(_solved(steps / 0.1, wanted, root, held)[0], -most_db, most_db)
    found = made(gains)
    order = {"low shelf": 0, "bell": 1, "high shelf": 2}
    return tuple(sorted(found, key=lambda one: (order[one.kind], one.frequency_hz)))
