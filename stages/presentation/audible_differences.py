"""What is heard of the difference between two mixes, in words: "bass 8 LU quieter, drums narrower above 4 kHz".

Descriptors tell the same thing several times (the levels of left and right and loudness are one fader), and some tell
what nobody hears (an octave of a bass stem 38 dB below the rest of it). Here each stem has one difference of level, one
of place, one of dynamics, and one for each run of neighbouring octaves or bands that differ alike; only octaves count
that are heard in one of the mixes. Differences are measured in steps (`STEPS`), weighed by how loud the stem is in its
mix, and told from the largest on. The steps were chosen, not measured: about twice what trained listeners tell apart.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.descriptors.absent_stems import ABSENT_LU, has_stem
from mixstyle.pipeline.descriptors.bands_and_floors import OCTAVES_HZ
from mixstyle.pipeline.descriptors.table import COLUMN, DESCRIPTORS

Aspect = Literal["presence", "level", "spectrum", "place", "width", "dynamics"]
Values = NDArray[np.float32]

STEPS: dict[Aspect, float] = {
    "presence": 1.0,  # of PRESENCE_STEPS
    "level": 2.0,  # LU against the mix
    "spectrum": 3.0,  # dB of an octave
    "place": 2.0,  # dB of left against right
    "width": 4.0,  # dB of mid against side
    "dynamics": 4.0,  # dB of crest factor
}
"""A difference of one step is told."""
PRESENCE_STEPS = 8.0
"""What a stem counts that one of the mixes has not."""
HEARD_BELOW_STEM_DB = -25.0
"""An octave of a stem is not heard where it is further below all of the stem."""
HEARD_BELOW_MIX_DB = -15.0
"""Nor where all stems together have so much more in it."""
NO_SIDE_DB = 20.0
"""Mid over side: beyond, a stem sounds as mono does."""
_REGIONS = ("low", "mid", "high")
_REGION_EDGES_HZ = (250.0, 4000.0)
_REGION_WORDS = {
    (0,): "below 250 Hz",
    (1,): "from 250 Hz to 4 kHz",
    (2,): "above 4 kHz",
    (0, 1): "below 4 kHz",
    (1, 2): "above 250 Hz",
    (0, 1, 2): "",
}


@dataclass(frozen=True)
class HeardDifference:
    """One thing that is heard. change: second minus first, in the unit of `STEPS`. steps: how large it is, the stem's
    loudness counted in."""

    stem: str
    aspect: Aspect
    change: float
    steps: float
    text: str

    def __str__(self) -> str:
        return self.text


def heard_differences(first: Values, second: Values) -> list[HeardDifference]:
    """What is heard in a second mix against a first one, from their descriptors [D]; the largest first.

    Their overall loudness is no part of it: players are set to the same.
    """
    found: list[HeardDifference] = []
    for stem in STEMS:
        there = [has_stem(values, stem) for values in (first, second)]
        if there[0] != there[1]:
            text = f"{'without' if there[0] else 'with'} {stem}"
            found.append(HeardDifference(stem, "presence", 1.0 if there[1] else -1.0, PRESENCE_STEPS, text))
        if not all(there):
            continue
        relative = [_value(values, stem, "relative_loudness_lu") for values in (first, second)]
        weight = float(np.clip(1 - max(relative) / ABSENT_LU, 0.2, 1.0))
        for aspect, change, text in _of_stem(first, second, stem):
            steps = weight * abs(change) / STEPS[aspect]
            if abs(change) >= STEPS[aspect]:
                found.append(HeardDifference(stem, aspect, round(change, 2), round(steps, 3), text))
    return sorted(found, key=lambda one: (-one.steps, one.text))


def in_words(differences: Sequence[HeardDifference], most: int = 5) -> str:
    """A sentence without a full stop: what is heard, the largest first.

    >>> in_words([])
    'no difference of the mix that is heard'
    """
    if not differences:
        return "no difference of the mix that is heard"
    more = len(differences) - most
    return ", ".join(one.text for one in differences[:most]) + (f", and {more} smaller" if more > 0 else "")


def is_heard(column: int, *songs: Values) -> bool:
    """Whether a descriptor tells something that is heard in one of the songs [D] each, and no other descriptor does:
    of level alone loudness against the mix, of octaves and bands those that are heard."""
    d = DESCRIPTORS[column]
    if d.moves_with_level:
        return False
    if d.octave_hz is not None:
        return bool(_octaves_heard(songs, d.stem)[OCTAVES_HZ.index(d.octave_hz)])
    if d.region is not None:
        return _region_heard(songs, d.stem, _REGIONS.index(d.region))
    return True


def aspect_of(column: int) -> tuple[str, str]:
    """The stem of a descriptor, and what of it the descriptor tells: descriptors alike in both are one fact.

    >>> [aspect_of(COLUMN[f"bass_{kind}"])[1] for kind in ("mid_side_db", "correlation", "octave_31hz_db")]
    ['width', 'width', 'spectrum, low']
    """
    d = DESCRIPTORS[column]
    if d.moves_with_level or d.kind == "relative_loudness_lu":
        return d.stem, "level"
    if d.group == "stereo":
        return d.stem, "place" if d.kind == "level_difference_db" else "width"
    if d.octave_hz is not None:
        return d.stem, f"spectrum, {_REGIONS[_region_of(d.octave_hz)]}"
    if d.region is not None:
        return d.stem, f"spectrum, {d.region}"
    return d.stem, d.kind if d.group == "spectral" else d.group


def _of_stem(first: Values, second: Values, stem: str) -> Iterator[tuple[Aspect, float, str]]:
    """Aspect, change and words of what differs in a stem that both have, heard or not."""

    def change(kind: str) -> float:
        return _value(second, stem, kind) - _value(first, stem, kind)

    level = change("relative_loudness_lu")
    yield "level", level, f"{stem} {abs(level):.0f} LU {'louder' if level > 0 else 'quieter'}"
    yield from _spectrum(first, second, stem)
    place = change("level_difference_db")
    yield "place", place, f"{stem} {abs(place):.0f} dB further {'left' if place > 0 else 'right'}"
    yield from _width(first, second, stem)
    crest = change("crest_db")
    yield (
        "dynamics",
        crest,
        f"{stem} with {abs(crest):.0f} dB {'more' if crest > 0 else 'less'} between peaks and level",
    )


def _spectrum(first: Values, second: Values, stem: str) -> Iterator[tuple[Aspect, float, str]]:
    """A run of neighbouring octaves that are heard and differ by a step, to the same side, is one difference."""
    octaves = [COLUMN[_octave(stem, hz)] for hz in OCTAVES_HZ]
    floor = HEARD_BELOW_STEM_DB - STEPS["spectrum"]
    values = [np.maximum(song[octaves], floor) for song in (first, second)]
    change = np.where(_octaves_heard((first, second), stem), values[1] - values[0], 0.0)
    sides = np.where(np.abs(change) >= STEPS["spectrum"], np.sign(change), 0)
    for side, run in groupby(range(len(sides)), key=lambda place: sides[place]):
        places = list(run)
        if side:
            mean = float(change[places].mean())
            word = "more" if side > 0 else "less"
            yield "spectrum", mean, f"{stem} {abs(mean):.0f} dB {word} {_octave_range(places[0], places[-1])}"


def _width(first: Values, second: Values, stem: str) -> Iterator[tuple[Aspect, float, str]]:
    """Of the three bands those that are heard; bands that differ by a step to the same side are one difference."""
    change = np.zeros(len(_REGIONS))
    for place, region in enumerate(_REGIONS):
        if _region_heard((first, second), stem, place):
            a, b = (min(_value(song, stem, f"mid_side_{region}_db"), NO_SIDE_DB) for song in (first, second))
            change[place] = b - a
    for side, word in ((1, "narrower"), (-1, "wider")):
        bands = tuple(int(place) for place in np.flatnonzero(side * change >= STEPS["width"]))
        if bands:
            mean = float(change[list(bands)].mean())
            where = _REGION_WORDS.get(bands, "below 250 Hz and above 4 kHz")
            yield "width", mean, f"{stem} {word} {where}".rstrip()


def _octaves_heard(songs: Sequence[Values], stem: str) -> NDArray[np.bool_]:
    """Which octaves of a stem are heard in one of the songs: near enough to all of the stem, and to all stems there."""
    heard = np.zeros(len(OCTAVES_HZ), np.bool_)
    for song in songs:
        if not has_stem(song, stem):
            continue
        power = {one: _octave_power(song, one) for one in STEMS}
        everyone = np.maximum(sum(power.values()), 1e-20)
        own = power[stem]
        in_stem = own >= 10 ** (HEARD_BELOW_STEM_DB / 10) * own.sum()
        heard |= in_stem & (own >= 10 ** (HEARD_BELOW_MIX_DB / 10) * everyone)
    return heard


def _region_of(octave_hz: float) -> int:
    """The band in which an octave's middle is."""
    return sum(octave_hz >= edge_hz * 2**-0.01 for edge_hz in _REGION_EDGES_HZ)


def _region_heard(songs: Sequence[Values], stem: str, region: int) -> bool:
    within = np.array([_region_of(hz) == region for hz in OCTAVES_HZ])
    return bool(_octaves_heard(songs, stem)[within].any())


def _octave_power(song: Values, stem: str) -> NDArray[np.float64]:
    """Mean squares of a stem in octaves."""
    levels = np.array([song[COLUMN[_octave(stem, hz)]] for hz in OCTAVES_HZ], np.float64)
    sides = [10 ** (_value(song, stem, f"rms_{side}_dbfs") / 10) for side in ("left", "right")]
    return sum(sides) / 2 * 10 ** (levels / 10)


def _octave(stem: str, hz: float) -> str:
    return f"{stem}_octave_{int(hz + 0.5)}hz_db"


def _octave_range(low: int, high: int) -> str:
    """Octaves in words, by their edges."""
    below, above = OCTAVES_HZ[low] / 2**0.5, OCTAVES_HZ[high] * 2**0.5
    if low == 0:
        return f"below {_hz(above)}"
    return f"above {_hz(below)}" if high == len(OCTAVES_HZ) - 1 else f"from {_hz(below)} to {_hz(above)}"


def _hz(value: float) -> str:
    """Two digits: 350 Hz, 1.4 kHz."""
    return f"{float(f'{value:.2g}'):.0f} Hz" if value < 1000 else f"{value / 1000:.2g} kHz"


def _value(song: Values, stem: str, kind: str) -> float:
    return float(song[COLUMN[f"{stem}_{kind}"]])
