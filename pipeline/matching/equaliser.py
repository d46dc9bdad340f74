"""A few filters of a desk that bring a stem's octaves nearest to a curve: chosen one by one, then tuned together.

The gain that a filter gives an octave hangs on where in the octave the stem has its power, so it is summed over third
octaves. A constant over all octaves is free: the fader has it.
"""

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
APART_OCTAVES = 0.9
"""Bells lie no nearer to each other."""
_PROBE_DB = 3.0
_BELLS_HZ = (63, 90, 125, 180, 250, 350, 500, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000, 11_000, 16_000)


def filters_db(filters: tuple[Filter, ...], sample_rate: int = SAMPLE_RATE) -> Floats:
    """What filters in a row give each third octave, in dB [BANDS]."""
    total = np.zeros(band_points_hz().shape)
    for one in filters:
        total = total + one.response_db(band_points_hz(), sample_rate)
    return 10 * np.log10((10 ** (total / 10)).mean(1))


def octave_change_db(power: Floats, gain_db: Floats) -> Floats:
    """How far octaves [octaves] move when third octaves of some power [BANDS] get so many dB each."""
    floor = power + TINY
    return 10 * np.log10(octave_sums(floor * 10 ** (gain_db / 10)) / octave_sums(floor))


def fit_filters(power: Floats, target_db: Floats, weight: Floats, most_db: float) -> tuple[Filter, ...]:
    """Filters that move a stem's octaves by target_db [octaves], but for a constant.

    power: the stem's, in third octaves [BANDS]. weight: what each octave counts [octaves], 0 to 1. most_db: of each
    filter. Gains are not rounded. None where the target is a constant.
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
        place, found, better = min(tries, key=lambda one: (one[2], one[0]))
        if error - better < WORTH_DB:
            break
        chosen, gains, error = [*chosen, place], found, better
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


def _solved(responses: Floats, wanted_db: Floats, root: Floats) -> tuple[Floats, float]:
    """Gains of least squares, a constant beside them, and the error that is left."""
    rows = np.vstack([responses, np.ones(len(wanted_db))]).T * root[:, None]
    price = np.sqrt(RIDGE) * np.eye(rows.shape[1])[:-1]
    solution = np.linalg.lstsq(
        np.vstack([rows, price]), np.concatenate([wanted_db * root, np.zeros(len(price))]), rcond=None
    )[0]
    gains = np.asarray(solution[:-1], np.float64)
    return gains, _error(gains, responses, wanted_db, root)


def _error(gains: Floats, responses: Floats, wanted_db: Floats, root: Floats) -> float:
    """Weighted root mean square of what is left, about its mean, in dB."""
    left = wanted_db - (gains @ responses if len(gains) else 0.0)
    mean = float((left * root**2).sum())
    return float(np.sqrt((((left - mean) * root) ** 2).sum()))


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
        gains = np.clip(_solved(steps / 0.1, wanted, root)[0], -most_db, most_db)
    found = made(gains)
    order = {"low shelf": 0, "bell": 1, "high shelf": 2}
    return tuple(sorted(found, key=lambda one: (order[one.kind], one.frequency_hz)))
