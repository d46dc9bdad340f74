"""What `evaluate-match` has measured, kept with what it follows from: `pairs.json`, format version 3.

    {"version": 3, "made_from": what `cache.storage.provenance` stores, "rows": {task: {number: {"song": ..., "values":
     ...}}}, "checksum": ...}

Earlier versions did not tell which effects, encoder and songs they were measured with: all is measured again.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import read_json, sha256_file, write_json
from mixstyle.cache.storage.fingerprint import fingerprint
from mixstyle.cache.storage.provenance import Provenance, differences, parse_provenance
from mixstyle.pipeline.core.errors import MixstyleError, one_line
from mixstyle.pipeline.descriptors.table import DESCRIPTORS_VERSION
from mixstyle.pipeline.mixing.effects import effect_versions
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.common.progress import remark
from mixstyle.stages.evaluate.match_rows import JUDGE, has_matchering
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file

VERSION = 3
ROWS_VERSION = 4
"""Counts up when a row is made, or a measure taken, in another way."""
WRITE_EVERY_S = 10.0
"""What a killed run loses at most, beside the pair that it was at."""
COUNTS = {"paired": "pairs", "unpaired": "unpaired"}
"""The tasks, and what of the options says how many pairs they have."""
Values = dict[str, dict[str, float]]
"""Of one pair: by row and measure."""


def match_provenance(
    stems: Path, songs: Mapping[str, int], settings: Settings, asked: Mapping[str, Any], separator: Separator | None
) -> Provenance:
    """What the values of a pair follow from. songs: bytes of each, by its folder's name. asked: the command's options
    that values follow from.

    Raises MixstyleError where there is no encoder.
    """
    return Provenance(
        "evaluate-match",
        {**asked, "stems": str(stems), "seed": settings.evaluate.seed},
        {"rows_version": ROWS_VERSION, "descriptors_version": DESCRIPTORS_VERSION},
        {
            "music": fingerprint(songs),
            "separator": separator and f"{separator.fingerprint} {settings.separate.precision}",
            "encoder": sha256_file(encoder_file(settings)),
            "judge": sha256_file(shipped(JUDGE)),
            "effect_versions": chain_versions(effect_versions()),
            "matchering": has_matchering(),
        },
    )


class KeptPairs:
    """What was measured, in a file; of another provenance it starts again, and says why."""

    def __init__(self, path: Path, provenance: Provenance) -> None:
        self.path, self.provenance = path, provenance
        self._rows: dict[str, dict[str, Any]] = {name: {} for name in COUNTS}
        self._unwritten, self._written_s = False, time.monotonic()
        if not path.is_file():
            return
        try:
            found = read_json(path)
            if found["version"] != VERSION:
                remark(f"evaluate-match: {path} was written by an earlier version; all of it is measured again")
            elif changed := differences(parse_provenance(found["made_from"], path), provenance):
                remark(f"evaluate-match: {path}: {'; '.join(changed)}; all of it is measured again")
            else:
                self._rows = {name: dict(found["rows"][name]) for name in COUNTS}
        except (MixstyleError, KeyError, TypeError, ValueError) as error:
            remark(f"evaluate-match: {path} is damaged ({one_line(error)}); all of it is measured again")

    def has(self, task: str, number: int) -> bool:
        return str(number) in self._rows[task]

    def add(self, task: str, number: int, song: int, values: Values) -> None:
        self._rows[task][str(number)] = {"song": song, "values": values}
        self._unwritten = True
        if time.monotonic() - self._written_s > WRITE_EVERY_S:  # all is written: not for each of many quick pairs
            self.write()

    def write(self) -> None:
        """Writes what was added since the last time."""
        if self._unwritten:
            made_from = self.provenance.to_json()
            write_json(self.path, {"version": VERSION, "made_from": made_from, "rows": self._rows}, checksum=True)
        self._unwritten, self._written_s = False, time.monotonic()

    def of(self, task: str, count: int) -> list[tuple[int, Values]]:
        """Song and values of the first pairs."""
        found = (self._rows[task][str(number)] for number in range(count))
        return [(int(one["song"]), one["values"]) for one in found]
