"""How a mean and its 95% interval are written, and what is said of too few songs."""

from collections.abc import Mapping

FEW_SONGS = 8
"""Below this many songs figures are no evidence: so few cannot be resampled in enough ways."""


def share(value: float, low: float, high: float, digits: int = 0, signed: bool = False) -> tuple[str, str]:
    """A share as `62.5%`, or a difference as `+3.1 points`, and its interval as `[50, 75]`, in percent.

    digits: of the interval. An interval without width is empty: all songs gave the same value, so resampling them
    tells nothing of how sure it is.

    >>> share(0.625, 0.5, 0.75), share(1.0, 1.0, 1.0)
    (('62.5%', '[50, 75]'), ('100.0%', ''))
    """
    sign, unit = ("+", " points") if signed else ("", "%")
    return f"{100 * value:{sign}.1f}{unit}", interval(low, high, digits, signed)


def interval(low: float, high: float, digits: int = 0, signed: bool = False) -> str:
    """An interval of shares in percent; empty where it has no width."""
    sign = "+" if signed else ""
    return f"[{100 * low:{sign}.{digits}f}, {100 * high:{sign}.{digits}f}]" if high > low else ""


def percent(entry: Mapping[str, float], name: str) -> str:
    """The share `name` of a figure with its interval `name_low` to `name_high`, in percent, without a sign for it."""
    return " ".join(part for part in percent_cell(entry, name) if part)


def percent_cell(entry: Mapping[str, float], name: str) -> tuple[str, str]:
    """As `percent`, in two parts: value and interval."""
    return f"{100 * entry[name]:.1f}", interval(entry[f"{name}_low"], entry[f"{name}_high"])


def evidence_note(songs: int) -> str:
    """What to say of figures on so many songs; empty where they are enough."""
    if songs >= FEW_SONGS:
        return ""
    return f"{songs} songs are no evidence: these figures show that everything runs, and nothing about the encoder."
