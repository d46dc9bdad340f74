"""The file of a match: what is set on each stem of a song, to be read, changed by hand, and put on other songs.

JSON with a version and a checksum of itself (`content_sha256`); who changes a value by hand deletes that line.

    kind                "mixstyle-match"
    version             3; 1 has no `effects`, 2 no `side_equaliser`, and both are read
    stems               by name: `effects` (name and parameters, of the registry; levels are over the stem's own),
                        `equaliser` (kind, frequency_hz, gain_db, q), `pan_percent` (-100 left), `side_db`
                        (below 250 Hz, to 4 kHz, above) and `gain_db`, which are done in this order
    mix                 the same for the sum of the stems, without `effects`; missing where nothing is set. It may
                        have a `side_equaliser` too, on the difference of the channels
    level_db            by how much the whole song gets louder, in LU
    reference_lufs      loudness of the reference; the output is no louder than 0.5 LU above it
    text, notes         the same for people, and what was left alone
    made                how it was found: amount, keep, bounds, separator, songs
    measured            of each stem and descriptor: before, after, and of the reference
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import read_json, write_json
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.matching.desk import Strip, number

KIND, VERSION = "mixstyle-match", 3
_READ = (1, 2, 3)
MOST_LEVEL_DB = 60.0


@dataclass(frozen=True, repr=False)
class MatchChain:
    """What is set. strips: of each stem, in the order of `STEMS`. mix: on their sum, without effects. level_db,
    reference_lufs, notes, made, measured: as the file has them."""

    strips: tuple[Strip, ...]
    level_db: float
    reference_lufs: float
    notes: tuple[str, ...] = ()
    made: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    mix: Strip = field(default_factory=Strip)

    @property
    def text(self) -> tuple[str, ...]:
        """A line a stem, and one for the whole song."""
        lines = [f"{stem}: {strip}" for stem, strip in zip(STEMS, self.strips, strict=True)]
        if self.mix.changes:
            lines.append(f"mix: {self.mix}")
        return (*lines, f"whole song: {self.level_db:+.1f} LU")

    @property
    def gains(self) -> str:
        """The gains alone, in one line."""
        stems = ", ".join(f"{stem} {strip.gain_db:+.1f} dB" for stem, strip in zip(STEMS, self.strips, strict=True))
        return f"{stems}, whole song {self.level_db:+.1f} LU"

    def __str__(self) -> str:
        return "\n".join(self.text)

    def __repr__(self) -> str:
        return f"MatchChain({self.gains})"


def write_chain(path: Path, chain: MatchChain) -> None:
    """Writes a chain. Raises MixstyleError (cannot-write)."""
    value = {
        "kind": KIND,
        "version": VERSION,
        "stems": {stem: strip.to_json() for stem, strip in zip(STEMS, chain.strips, strict=True)},
        **({"mix": chain.mix.to_json()} if chain.mix.changes else {}),
        "level_db": chain.level_db,
        "reference_lufs": chain.reference_lufs,
        "text": list(chain.text),
        "notes": list(chain.notes),
        "made": dict(chain.made),
        "measured": dict(chain.measured),
    }
    write_json(path, value, checksum=True)


def read_chain(path: Path) -> MatchChain:
    """Reads a chain.

    Raises MixstyleError: not-found, damaged-file (no JSON, or not what its checksum says), wrong-file (something else,
    or values that no desk has), unknown-version.
    """
    if not path.is_file():
        raise not_there(path)
    data = read_json(path, changed="after a change by hand, delete its line content_sha256")
    if not isinstance(data, dict) or data.get("kind") != KIND:
        raise MixstyleError(f"{path}: is not a chain that `mixstyle match` wrote", code="wrong-file")
    if data.get("version") not in _READ:
        told = f"{path}: has version {data.get('version')}; this mixstyle reads version {VERSION}"
        raise MixstyleError(told, code="unknown-version")
    try:
        if missing := [name for name in ("stems", "level_db", "reference_lufs") if name not in data]:
            raise ValueError(f"{missing[0]} is missing")
        if not isinstance(data["stems"], dict) or set(data["stems"]) != set(STEMS):
            raise ValueError(f"stems should be {', '.join(STEMS)}")
        strips = tuple(_strip(stem, data["stems"][stem]) for stem in STEMS)
        mix = _strip("mix", data["mix"]) if "mix" in data else Strip()
        if mix.inserts:
            raise ValueError("mix: has no effects")
        level_db, reference_lufs = (number(name, data[name]) for name in ("level_db", "reference_lufs"))
        if not -MOST_LEVEL_DB <= level_db <= MOST_LEVEL_DB or not -70 <= reference_lufs <= 10:
            raise ValueError(f"level_db={level_db}, reference_lufs={reference_lufs}: out of bounds")
        notes = data.get("notes", [])
        if not isinstance(notes, list):
            raise ValueError(f"notes={notes!r} should be a list")
        notes = tuple(str(note) for note in notes)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise MixstyleError(f"{path}: cannot be used as a chain ({error})", code="wrong-file") from error
    return MatchChain(strips, level_db, reference_lufs, notes, data.get("made", {}), data.get("measured", {}), mix)


def _strip(name: str, data: Mapping[str, Any]) -> Strip:
    """A strip of JSON. Raises ValueError, with its name."""
    try:
        return Strip.from_json(data)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error
