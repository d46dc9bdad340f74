"""Why two songs are near or far, in sentences, for the page."""

import math
from collections.abc import Sequence

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.presentation.audible_differences import HeardDifference
from mixstyle.stages.presentation.values import percent

FAR_STEPS = 4.0
"""A stem of which one difference comes to so many steps (`heard.STEPS`) is heard at once to be another."""
FAR_RATIO = 2.0
"""And where that is so many times the largest of the other stems, it is the exception."""
HALF = 0.5
"""Two songs closer than this share of the pairs are alike, and those farther apart are not."""


def closeness(closer_than: float) -> str:
    """How near two songs are, among the pairs of the index; empty where that is not known."""
    if math.isnan(closer_than):
        return ""
    if closer_than in (0, 1):
        return f"{'closer' if closer_than else 'farther apart'} than any other pair of songs here"
    if closer_than < HALF:
        return f"farther apart than {percent(1 - closer_than)} of the pairs of songs here"
    return f"closer than {percent(closer_than)} of the pairs of songs here"


def exception(heard: Sequence[HeardDifference], closer_than: float = 1.0) -> str:
    """`but for the bass`, where one stem differs greatly and the others do not; empty where none or several do, and
    where the songs are not alike.

    heard: what is heard of the second against the first. closer_than: share of the pairs that are farther apart.
    """
    if closer_than < HALF:
        return ""
    steps = [(max((one.steps for one in heard if one.stem == stem), default=0.0), stem) for stem in STEMS]
    (far, stem), (next_far, _) = sorted(steps, reverse=True)[:2]
    if far < FAR_STEPS or far < FAR_RATIO * next_far or next_far >= FAR_STEPS:
        return ""
    there = next((one.change for one in heard if one.stem == stem and one.aspect == "presence"), 0.0)
    return f"but for the {stem}" if there == 0 else f"but with {stem}" if there > 0 else f"but without the {stem}"
