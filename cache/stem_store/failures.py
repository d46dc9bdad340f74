"""The failure log `failures.csv`, one row for each track or clip that could not be used, and why.

Columns: track_id, path, clip (empty where the whole track failed), stage, reason (its kind, a colon, the detail).
RFC 4180, UTF-8, in the order of the manifest. It is written again from the shards' sidecars, so equal shards give equal
bytes.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from mixstyle.cache.stem_store.shards import ShardInfo
from mixstyle.cache.storage.atomic import write_bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A row. clip: the clip's id, or empty for a whole track."""

    track_id: str
    path: str
    clip: str
    stage: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its detail, to count by."""
        return self.reason.partition(":")[0]


def failures_of(shards: Iterable[ShardInfo], stage: str = "separate") -> list[Failure]:
    """The failures that shards' sidecars tell: a row for a failed track, else one for each clip that failed."""
    failures = []
    for shard in shards:
        for track in shard.tracks:
            if track["reason"]:
                failures.append(Failure(track["track_id"], track["path"], "", stage, track["reason"]))
                continue
            failures += [
                Failure(track["track_id"], track["path"], clip["clip_id"], stage, clip["reason"])
                for clip in track["clips"]
                if clip["status"] != "ok"
            ]
    return failures


def count_by_kind(failures: Iterable[Failure]) -> dict[str, int]:
    """How many of each kind, most first."""
    return dict(Counter(failure.kind for failure in failures).most_common())


def write_failures(path: Path, failures: Sequence[Failure]) -> None:
    """Writes the failure log atomically. Names that are no UTF-8 get backslashes."""
    write_bytes(path, failures_csv(failures))


def failures_csv(failures: Sequence[Failure]) -> bytes:
    """The failure log's bytes."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([field.name for field in fields(Failure)])
    writer.writerows(astuple(failure) for failure in failures)
    return text.getvalue().encode("utf-8", errors="backslashreplace")
