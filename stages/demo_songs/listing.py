"""The list of rendered songs on disk, `songs.json`, and what it says that they were made from. Quick to import."""

import json
import re
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.provenance import Provenance
from mixstyle.pipeline.core.errors import ErrorCode, MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.synth.renderer import RENDERER_VERSION, soundfont_bytes

FORMAT = 1
_OUR_NAME = re.compile(r"\d{4,}-[a-z]+-\d+bpm(\.flac)?(\.partial)?")


def stored_settings(seed: int, duration_s: float, stems: bool) -> dict[str, Any]:
    """What songs depend on, as songs.json has it."""
    return {
        "seed": seed,
        "duration_s": float(duration_s),
        "stems": stems,
        "sample_rate": SAMPLE_RATE,
        "renderer": RENDERER_VERSION,
        "soundfont_sha256": sha256(soundfont_bytes()).hexdigest(),
    }


def is_whole(output_dir: Path, entry: dict[str, Any]) -> bool:
    """Whether every file of a listed song is there with its size."""
    for name, size in entry["files"].items():
        path = output_dir / name
        if not path.is_file() or path.stat().st_size != size:
            return False
    return True


def our_entries(output_dir: Path) -> Iterator[Path]:
    """What is in songs/ and stems/ under names such as we give."""
    for folder in (output_dir / "songs", output_dir / "stems"):
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            if _OUR_NAME.fullmatch(path.name.removeprefix(".")):
                yield path


def stale(output_dir: Path, message: str, code: ErrorCode = "stale") -> MixstyleError:
    """The refusal of songs that have to be made again."""
    return MixstyleError(message, code=code, remedy=("demo-songs", str(output_dir), "--rebuild"))


def provenance_of(settings: Mapping[str, Any]) -> Provenance:
    """What songs follow from, of songs.json's `settings`: the renderer and its instruments are no settings."""
    own = dict(settings)
    versions = {name: own.pop(name) for name in ("renderer",) if name in own}
    made_from = {name: own.pop(name) for name in ("soundfont_sha256",) if name in own}
    return Provenance("demo-songs", own, versions, made_from)


def stored_provenance(listing: Mapping[str, Any]) -> Provenance:
    """What the songs of a songs.json were made from."""
    return provenance_of(listing["settings"])


def read_listing(output_dir: Path) -> dict[str, Any] | None:
    """songs.json, or None where there is none; refuses what it cannot read or another format."""
    path = output_dir / "songs.json"
    if not path.exists():
        return None
    try:
        listing = json.loads(path.read_text(encoding="utf-8"))
        version = listing["format"]
        readable = isinstance(listing["settings"], dict) and isinstance(listing["songs"], list)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise stale(
            output_dir, f"{path} is not a list of songs; to replace it and its songs,", "damaged-file"
        ) from error
    if version != FORMAT or not readable:
        message = f"{path} has format {version}, and this mixstyle writes {FORMAT}; to replace the songs,"
        raise stale(output_dir, message, "unknown-version")
    return listing
