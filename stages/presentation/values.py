"""How values are written in files and tables: numbers to six digits, shares in percent, CSV with line feeds."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any


def rounded(value: float) -> float | None:
    """A number to six digits; None for what is not finite, which JSON has no word for.

    >>> rounded(0.12345678), rounded(float("nan"))
    (0.123457, None)
    """
    return float(f"{value:.6g}") if math.isfinite(value) else None


def percent(share: float) -> str:
    """A share for people.

    >>> percent(0.873), percent(0.9996), percent(float("nan"))
    ('87%', '>99.9%', '-')
    """
    if math.isnan(share):
        return "-"
    if 0.999 < share <= 1:
        return ">99.9%"
    return f"{share:.0%}" if share < 0.99 else f"{share:.1%}"


def as_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as CSV; None is an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()
