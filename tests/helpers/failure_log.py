"""The rows of a failure log, read by Python's `csv` alone."""

import csv
from pathlib import Path

from mixstyle.cache.stem_store.failures import Failure


def read_failures(path: Path) -> list[Failure]:
    """The rows of `failures.csv`. Raises TypeError where its columns are not those of `Failure`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Failure(**row) for row in csv.DictReader(file)]
