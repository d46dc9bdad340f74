"""What an engineer sets on the channel of a stem: effects, equaliser, pan, width, gain, each with its unit and bounds.

The order is effects (`inserts`), then that of the other fields of `Strip`. Nothing here knows how the values are found
(`estimate`) or how samples are run through them (`render`). Filters are those of R. Bristow-Johnson's "Cookbook
formulae for audio equalizer biquad filter coefficients", which desks and plug-ins have under the same names; all are of
minimum phase.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mixstyle.pipeline.matching.inserts import checked_insert, insert_of_json, told_insert
from mixstyle.pipeline.mixing.mix_chain import Effect

Floats = NDArray[np.float64]
FilterKind = Literal["low shelf", "high shelf", "bell"]
KINDS: tuple[str, ...] = get_args(FilterKind)

SHELF_Q = round(math.sqrt(0.5), 3)
WIDTH_EDGES_HZ = (250.0, 4000.0)
"""Between the three bands of width: those of the descriptors."""
MOST_DB = 24.0
"""No value of a strip is beyond this."""
MOST_FILTERS = 31
"""On both channels, and as many on the side signal."""
MOST_TOLD = 6
"""Filters that are told one by one."""
_SIDE_EQUALISER = "side_equaliser"


@dataclass(frozen=True)
class Filter:
    """One band of an equaliser. Raises ValueError for values that no desk has."""

    kind: FilterKind
    frequency_hz: float
    gain_db: float
    q: float = SHELF_Q

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"a filter is one of {', '.join(KINDS)}, not {self.kind!r}")
        _within("frequency_hz", self.frequency_hz, 20.0, 20_000.0)
        _within("gain_db", self.gain_db, -MOST_DB, MOST_DB)
        _within("q", self.q, 0.1, 10.0)

    def __str__(self) -> str:
        """`low shelf +1.5 dB at 120 Hz`."""
        q = f", Q {self.q:.1f}" if self.kind == "bell" else ""
        return f"{self.kind} {self.gain_db:+z.1f} dB at {told_hz(self.frequency_hz)}{q}"

    def section(self, sample_rate: int) -> Floats:
        """b0, b1, b2, 1, a1, a2: a second-order section as scipy.signal.sosfilt takes it."""
        A = 10 ** (self.gain_db / 40)
        w = 2 * math.pi * min(self.frequency_hz, 0.49 * sample_rate) / sample_rate
        cos, alpha = math.cos(w), math.sin(w) / (2 * self.q)
        if self.kind == "bell":
            b, a = (1 + alpha * A, -2 * cos, 1 - alpha * A), (1 + alpha / A, -2 * cos, 1 - alpha / A)
        else:
            # a low shelf is a high shelf of the mirrored frequency
            s = 1.0 if self.kind == "high shelf" else -1.0
            up, down, root = A + 1, A - 1, 2 * math.sqrt(A) * alpha
            b = (
                A * (up + s * down * cos + root),
                -2 * s * A * (down + s * up * cos),
                A * (up + s * down * cos - root),
            )
            a = (up - s * down * cos + root, 2 * s * (down - s * up * cos), up - s * down * cos - root)
        return np.array([*b, *a]) / a[0]

    def response_db(self, frequency_hz: Floats, sample_rate: int) -> Floats:
        """Gain in dB at each frequency, in the shape given."""
        section = self.section(sample_rate)
        z = np.exp(-2j * np.pi * np.asarray(frequency_hz) / sample_rate)
        top = section[0] + section[1] * z + section[2] * z**2
        bottom = section[3] + section[4] * z + section[5] * z**2
        return 20 * np.log10(np.abs(top / bottom))


@dataclass(frozen=True)
class Strip:
    """What is set on one stem, in the order in which it is done; the values of a new one change nothing.

    filters: the equaliser. pan_percent: -100 is left, 100 right, by the sine law with 0 dB in the middle. side_db: gain
    of the difference of the channels below 250 Hz, up to 4 kHz, and above. gain_db: the fader. inserts: effects of the
    registry, before all of that (`mixstyle.pipeline.matching.inserts`). side_equaliser: filters on the difference of
    the channels alone, after `side_db`; of a mix.
    """

    filters: tuple[Filter, ...] = ()
    pan_percent: float = 0.0
    side_db: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gain_db: float = 0.0
    inserts: tuple[Effect, ...] = ()
    side_equaliser: tuple[Filter, ...] = ()

    def __post_init__(self) -> None:
        for effect in self.inserts:
            checked_insert(effect)
        if len({effect.name for effect in self.inserts}) < len(self.inserts):
            raise ValueError("an effect is set twice")
        most = max(len(self.filters), len(self.side_equaliser))
        if most > MOST_FILTERS:
            raise ValueError(f"at most {MOST_FILTERS} filters, not {most}")
        if len(self.side_db) != 3:
            raise ValueError(f"side_db should hold 3 values, not {len(self.side_db)}")
        _within("pan_percent", self.pan_percent, -90.0, 90.0)
        for name, value in (("gain_db", self.gain_db), *(("side_db", value) for value in self.side_db)):
            _within(name, value, -MOST_DB, MOST_DB)

    @property
    def changes(self) -> bool:
        """Whether it does anything."""
        return self != Strip()

    @property
    def pan_gains(self) -> tuple[float, float]:
        """What left and right are multiplied by."""
        if self.pan_percent == 0:
            return 1.0, 1.0
        angle = (self.pan_percent / 100 + 1) * math.pi / 4
        return math.sqrt(2) * math.cos(angle), math.sqrt(2) * math.sin(angle)

    @property
    def side_filters(self) -> tuple[float, tuple[Filter, ...]]:
        """The side signal's gain in dB, and the shelves that make it another below and above; then its equaliser."""
        low, mid, high = self.side_db
        shelves = (
            Filter("low shelf", WIDTH_EDGES_HZ[0], low - mid),
            Filter("high shelf", WIDTH_EDGES_HZ[1], high - mid),
        )
        return mid, (*(shelf for shelf in shelves if shelf.gain_db != 0), *self.side_equaliser)

    def without_stereo(self) -> "Strip":
        """The same for a song in mono: without pan, width and reverb, which the registry has in stereo alone."""
        return Strip(
            self.filters, gain_db=self.gain_db, inserts=tuple(one for one in self.inserts if one.name != "reverb")
        )

    def __str__(self) -> str:
        """`+2.3 dB, low shelf +1.5 dB at 120 Hz`; `as it is` where it does nothing."""
        parts = [f"{self.gain_db:+z.1f} dB"] if self.gain_db else []
        parts += [told_insert(one) for one in self.inserts]
        parts += _told_filters(self.filters)
        if self.pan_percent:
            parts.append(f"pan {abs(self.pan_percent):.0f}% {'left' if self.pan_percent < 0 else 'right'}")
        if any(self.side_db):
            low, mid, high = self.side_db
            parts.append(f"side signal {low:+.1f} / {mid:+.1f} / {high:+.1f} dB (below 250 Hz / to 4 kHz / above)")
        if self.side_equaliser:
            parts.append(f"on the side signal {', '.join(_told_filters(self.side_equaliser))}")
        return ", ".join(parts) or "as it is"

    def to_json(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "effects": [{"name": one.name, **one.parameters} for one in self.inserts],
            "equaliser": _filters_json(self.filters),
            "pan_percent": self.pan_percent,
            "side_db": list(self.side_db),
            "gain_db": self.gain_db,
            **({_SIDE_EQUALISER: _filters_json(self.side_equaliser)} if self.side_equaliser else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Strip":
        """Reads what `to_json` made, and what it made before there were effects.

        Raises ValueError or TypeError for anything else.
        """
        _named(data, [name for name in Strip().to_json() if name != "effects"], ("effects", _SIDE_EQUALISER))
        filters, on_side = (
            tuple(_filter_of_json(one) for one in _list(data, name)) for name in ("equaliser", _SIDE_EQUALISER)
        )
        sides = [number("side_db", value) for value in _list(data, "side_db")]
        if len(sides) != 3:
            raise ValueError(f"side_db should hold 3 values, not {len(sides)}")
        low, mid, high = sides
        inserts = tuple(insert_of_json(one) for one in _list(data, "effects"))
        pan_percent, gain_db = (number(name, data[name]) for name in ("pan_percent", "gain_db"))
        return cls(filters, pan_percent, (low, mid, high), gain_db, inserts, on_side)


@dataclass(frozen=True)
class Bounds:
    """How far a strip may be set, each in dB and to either side; `pan_db` is left against right.

    share: of each difference, what is set; of a difference beyond filter_db, pan_db or side_db, that of the bound.
    """

    gain_db: float = 9.0
    filter_db: float = 6.0
    pan_db: float = 6.0
    side_db: float = 6.0
    share: float = 1.0
    name: str = field(default="full", compare=False)


FULL = Bounds()
WIDE = Bounds(gain_db=12.0, filter_db=12.0, pan_db=20.0, side_db=12.0, name="wide")
"""For true stems, which hold nothing of one another."""
GENTLE = Bounds(gain_db=9.0, filter_db=12.0, pan_db=12.0, side_db=12.0, share=0.5, name="gentle")
"""For stems with much of one another in them: what is done to one is then done to parts of others, so half is done."""


def pan_of(level_difference_db: float) -> float:
    """The pan, in percent, that raises left over right by so many dB.

    >>> pan_of(0.0), round(pan_of(6.0206))
    (0.0, -41)
    """
    return 100 * (4 / math.pi * math.atan(10 ** (-level_difference_db / 20)) - 1) if level_difference_db else 0.0


def told_hz(frequency_hz: float) -> str:
    """A frequency for people.

    >>> told_hz(120.0), told_hz(62.5), told_hz(5656.9)
    ('120 Hz', '62 Hz', '5.7 kHz')
    """
    return f"{frequency_hz:.0f} Hz" if frequency_hz < 1000 else f"{frequency_hz / 1000:.2g} kHz"


def _told_filters(filters: Sequence[Filter]) -> list[str]:
    """Each of a few; of many their number and the farthest."""
    if len(filters) <= MOST_TOLD:
        return [str(one) for one in filters]
    least, most = (choose(filters, key=lambda one: one.gain_db) for choose in (min, max))
    ends = " to ".join(f"{one.gain_db:+z.1f} dB at {told_hz(one.frequency_hz)}" for one in (least, most))
    return [f"graphic equaliser of {len(filters)} bands, {ends}"]


def _filters_json(filters: Sequence[Filter]) -> list[dict[str, Any]]:
    return [{"kind": one.kind, "frequency_hz": one.frequency_hz, "gain_db": one.gain_db, "q": one.q} for one in filters]


def number(name: str, value: object) -> float:
    """A number of JSON. Raises ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{name}={value!r} should be a number")
    return float(value)


def _filter_of_json(data: Mapping[str, Any]) -> Filter:
    _named(data, ("kind", "frequency_hz", "gain_db"), ("q",))
    values = {name: number(name, value) for name, value in data.items() if name != "kind"}
    return Filter(data["kind"], **values)


def _list(data: Mapping[str, Any], name: str) -> Sequence[Any]:
    value = data.get(name, [])
    if not isinstance(value, list):
        raise ValueError(f"{name}={value!r} should be a list")
    return value


def _named(data: object, needed: Sequence[str], others: Sequence[str]) -> None:
    if not isinstance(data, Mapping):
        raise ValueError(f"{data!r} should have the names {', '.join(needed)}")
    if missing := [name for name in needed if name not in data]:
        raise ValueError(f"{missing[0]} is missing")
    if unknown := [name for name in data if name not in (*needed, *others)]:
        raise ValueError(f"there is no {unknown[0]}; there are {', '.join((*needed, *others))}")


def _within(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value!r} should be between {low:g} and {high:g}")
