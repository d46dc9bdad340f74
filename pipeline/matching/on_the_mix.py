"""What is left to do on the sum of the stems: third octaves of middle and side.

Where stems are separated they are moved with care, since each holds parts of the others. What that leaves of the
difference can be done on the mix, where there is nothing to bleed: a graphic equaliser on both channels, and one on the
side signal.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.matching.desk import WIDE, WIDTH_EDGES_HZ, Bounds, Strip
from mixstyle.pipeline.matching.estimate import RAISED_FROM_DB
from mixstyle.pipeline.matching.graphic import graphic_filters
from mixstyle.pipeline.matching.profile import TINY, StemPower, band_points_hz, stem_power

Floats = NDArray[np.float64]

FLOOR_DB = -65.0
"""A third octave this far below the whole mix, or further, is noise: it is not raised."""
NARROWEST_DB = 40.0
"""A third octave of the side this far below the middle's is not there."""


def mix_strip(
    made: Sequence[NDArray[np.floating]],
    reference: Sequence[NDArray[np.floating]],
    amount: float = 1.0,
    bounds: Bounds = WIDE,
    *,
    stereo: bool = True,
) -> Strip:
    """What brings a mix as its stems' strips made it to a reference, of which clips [2, T] are known. amount: 0 to 1.
    stereo: whether the side is touched."""
    mine, wanted = stem_power(made), stem_power(reference)
    target, counts = _curve(*((one.mid if stereo else one.total) for one in (mine, wanted)))
    if (counts > 0).any():  # about the median, so that most bells rest: the level is set at the end
        target = target - float(np.median(target[counts > 0]))
    filters = graphic_filters(target, counts, bounds.filter_db, amount)
    if not stereo:
        return Strip(filters)
    side_target = _side_curve(mine, wanted)
    return Strip(
        filters, side_equaliser=graphic_filters(side_target, np.ones(len(side_target)), bounds.side_db, amount)
    )


def _curve(mine: Floats, wanted: Floats) -> tuple[Floats, Floats]:
    """By how much third octaves of power should move against the whole, and what each counts: [BANDS] each."""
    here, there = (10 * np.log10(np.maximum(one, TINY) / max(float(one.sum()), TINY)) for one in (mine, wanted))
    target = np.maximum(there, FLOOR_DB) - np.maximum(here, FLOOR_DB)
    may_rise = np.clip((here - FLOOR_DB) / RAISED_FROM_DB, 0, 1)
    counts = np.clip((np.maximum(here, there) - FLOOR_DB) / RAISED_FROM_DB, 0, 1)
    return np.where(target > 0, target * may_rise, target), counts


def _side_curve(mine: StemPower, wanted: StemPower) -> Floats:
    """By how much the side should move against the middle [BANDS]. Below 250 Hz it is never raised, nor where there is
    none; no reference asks for less than none."""
    here, there = (10 * np.log10(np.maximum(p.side, TINY) / np.maximum(p.mid, TINY)) for p in (mine, wanted))
    target = np.maximum(there, -NARROWEST_DB) - np.maximum(here, -NARROWEST_DB)
    level = 10 * np.log10(np.maximum(mine.side, TINY) / max(float(mine.total.sum()), TINY))
    may_rise = np.clip((level - FLOOR_DB) / RAISED_FROM_DB, 0, 1) * (here > -NARROWEST_DB)
    may_rise = may_rise * (band_points_hz().mean(1) >= WIDTH_EDGES_HZ[0])
    return np.where(target > 0, target * may_rise, target)
