"""A graphic equaliser: a bell in each third octave, at the frequencies of ISO 266, whose gains are solved together.

The highest band, which ends with the spectrum, has a shelf. Bells overlap, so that the gains are not the curve: they
are those whose sum, as the filters really are, is nearest to it. All are of minimum phase, as all filters of a desk are
here.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.matching.desk import Filter
from mixstyle.pipeline.matching.equaliser import LEAST_DB, filters_db, total_db

Floats = NDArray[np.float64]

CENTRES_HZ = (
    *(25.0, 31.5, 40.0, 50.0, 63.0, 80.0, 100.0, 125.0, 160.0, 200.0),
    *(250.0, 315.0, 400.0, 500.0, 630.0, 800.0, 1000.0, 1250.0, 1600.0, 2000.0),
    *(2500.0, 3150.0, 4000.0, 5000.0, 6300.0, 8000.0, 10_000.0, 12_500.0, 16_000.0),
)
"""One in each band of `profile` but the highest, whose third octaves have the same centres."""
SHELF_HZ = 17_000.0
"""Of the highest band."""
WIDTH_OCTAVES = 1 / 3
RIDGE = 0.005
"""The price of a dB of a bell, against a third octave's dB of error, both squared."""
ROUNDS = 4
SHRUNK = 0.97
"""Gains are taken back by so much, until their sum is within its bound."""
_PROBE_DB = 6.0


def graphic_filters(target_db: Floats, weight: Floats, most_db: float, amount: float = 1.0) -> tuple[Filter, ...]:
    """Bells, and a shelf, whose sum is nearest to a curve in third octaves [BANDS], times `amount`.

    weight: what each band counts, 0 to 1. most_db: of each bell and of their sum at every frequency. Gains are in steps
    of 0.1 dB; those that nobody hears are left out.
    """
    target_db = np.clip(target_db, -most_db, most_db)
    unit = _responses() / _PROBE_DB
    gains = np.zeros(len(target_db))
    for _ in range(ROUNDS):
        # a bell of 12 dB is not twice one of 6 dB: what is still missing is solved for again
        error_db = target_db - filters_db(_bells(gains))
        rows = unit.T * weight[:, None]
        left = np.vstack([rows, np.sqrt(RIDGE) * np.eye(len(gains))])
        right = np.concatenate([error_db * weight, -np.sqrt(RIDGE) * gains])
        gains = np.clip(gains + np.linalg.lstsq(left, right, rcond=None)[0], -most_db, most_db)
    while np.abs(total_db(_bells(gains))).max(initial=0.0) > most_db:
        gains = gains * SHRUNK
    return _bells(np.trunc(amount * gains * 10) / 10, LEAST_DB)


def bell_q(hz: float) -> float:
    """Of a bell that is a third octave wide, as digital filters are: R. Bristow-Johnson's formula for a bandwidth.

    >>> bell_q(100.0), bell_q(16_000.0)
    (4.32, 1.41)
    """
    w = 2 * math.pi * hz / SAMPLE_RATE
    return round(1 / (2 * math.sinh(math.log(2) / 2 * WIDTH_OCTAVES * w / math.sin(w))), 2)


def _bells(gains: Floats, least_db: float = 0.0) -> tuple[Filter, ...]:
    pairs = zip(CENTRES_HZ, gains[:-1], strict=True)
    bells = [Filter("bell", hz, float(gain), bell_q(hz)) for hz, gain in pairs]
    shelf = Filter("high shelf", SHELF_HZ, float(gains[-1]))
    return tuple(one for one in (*bells, shelf) if abs(one.gain_db) >= least_db and one.gain_db != 0)


@lru_cache(maxsize=1)
def _responses() -> Floats:
    """Of each alone, at _PROBE_DB [BANDS, BANDS]."""
    return np.stack([filters_db(_bells(gains)) for gains in _PROBE_DB * np.eye(len(CENTRES_HZ) + 1)])
