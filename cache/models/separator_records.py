"""Which separators' stems an encoder was trained on, so that it can be told when it is used with another one.

Stems keep it in a note of their provenance (`SeparatorRecord.note`), encoders under `separators`: a list of
`{"name": ..., "fingerprint": ..., "num_overlap": ...}`, one for each separator whose stems are among them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixstyle.cache.storage.provenance import Provenance

if TYPE_CHECKING:  # torch is not needed to read a record
    from mixstyle.pipeline.separation.separator import Separator

KEY = "separators"
"""In an encoder's content, and in the notes of a provenance."""
_GIVEN = "stems"
"""What the provenance of stems has for a separator where the stems were given (`separate.input=stems`)."""


@dataclass(frozen=True)
class SeparatorRecord:
    """A separator as it is remembered. name: its checkpoint's file name without suffix. fingerprint: that of
    `Separator`, empty where it was not noted. num_overlap: the overlap that the fingerprint is of."""

    name: str
    fingerprint: str = ""
    num_overlap: int | None = None

    @classmethod
    def of(cls, separator: "Separator") -> "SeparatorRecord":
        return cls(separator.name, separator.fingerprint, separator.file.num_overlap)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SeparatorRecord":
        return cls(str(stored.get("name", "")), str(stored.get("fingerprint", "")), stored.get("num_overlap"))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_of(self, separator: "Separator") -> bool:
        """Whether it is the same network: at any overlap, which moves its stems little. By name where that is all."""
        if not self.fingerprint:
            return self.name == separator.name
        here = separator.fingerprint if self.num_overlap is None else separator.fingerprint_at(self.num_overlap)
        return self.fingerprint == here

    def __str__(self) -> str:
        if self.fingerprint == _GIVEN:
            return self.name
        return f"{self.name} ({self.fingerprint})" if self.fingerprint else self.name


GIVEN_STEMS = SeparatorRecord("stems that were given", _GIVEN)
"""Stems that no separator of ours made."""
FIRST_SHIPPED = SeparatorRecord("scnet_tiny", "99fe0fa1f611a14c", 2)
"""The small separator that came with mixstyle 0.1; encoders of that time have no record."""


def separators_note(separators: "Sequence[Separator]") -> dict[str, str]:
    """The note in the provenance of stems that tells which separators made them."""
    return {KEY: json.dumps([SeparatorRecord.of(one).to_json() for one in separators], sort_keys=True)}


def separators_of_stems(provenance: Provenance, name: str = "") -> tuple[SeparatorRecord, ...]:
    """The separators that made the stems of this provenance.

    name: what the separator is called where no note tells, as in earlier folders.
    """
    if noted := provenance.notes.get(KEY):
        return tuple(SeparatorRecord.from_json(stored) for stored in json.loads(noted))
    stored = provenance.flat
    found = []
    for place, fingerprint in enumerate(stored.get("separators") or [stored.get("separator")]):
        if fingerprint == _GIVEN:
            found.append(GIVEN_STEMS)
        elif fingerprint:
            known = FIRST_SHIPPED.name if fingerprint == FIRST_SHIPPED.fingerprint else "" if place else name
            found.append(SeparatorRecord(known or "a separator", fingerprint, stored.get("num_overlap")))
    return tuple(found)


def stems_were_given(provenance: Provenance) -> bool:
    """Whether the stems of this provenance were given (`separate.input=stems`): no mix of theirs was separated."""
    return separators_of_stems(provenance) == (GIVEN_STEMS,)


def separators_of_encoder(content: Mapping[str, Any]) -> tuple[SeparatorRecord, ...]:
    """The separators in a checkpoint's or an exported file's content; none where nothing tells of any.

    Files older than the record hold the settings that trained them, which name the separator's checkpoint.
    """
    if KEY in content:
        return tuple(SeparatorRecord.from_json(stored) for stored in content[KEY])
    separate = content.get("settings", {}).get("separate", {})
    if separate.get("input") == "stems":
        return (GIVEN_STEMS,)
    name = Path(separate.get("separator_checkpoint") or "").stem
    if name == FIRST_SHIPPED.name:
        return (FIRST_SHIPPED,)
    return (SeparatorRecord(name),) if name else ()
