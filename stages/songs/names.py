"""What songs are called in tables and files: by their own names, and by their folders' too where those are equal."""

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from mixstyle.cache.storage.atomic import LONGEST_NAME_BYTES
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import printable


def distinct_names(paths: Sequence[Path]) -> list[str]:
    """A name for each path: its last part, and as many of those before it as tell it from the others.

    A path that is given twice is numbered.

    >>> distinct_names([Path("/m/A - B/mixture.wav"), Path("/m/C - D/mixture.wav"), Path("/m/song.mp3")])
    ['A - B/mixture.wav', 'C - D/mixture.wav', 'song.mp3']
    """
    parts = [_parts(path) for path in paths]
    depths = [1] * len(parts)
    while True:
        names = ["/".join(own[-depth:]).replace("//", "/") for own, depth in zip(parts, depths, strict=True)]
        counts = Counter(names)
        deeper = [counts[name] > 1 and depth < len(own) for name, depth, own in zip(names, depths, parts, strict=True)]
        if not any(deeper):
            return _numbered(names)
        depths = [depth + more for depth, more in zip(depths, deeper, strict=True)]


def page_names(names: Sequence[str], suffix: str) -> list[str]:
    """A file's name for each song's name; no two of them are equal, whatever the file system makes of upper case.

    >>> page_names(["A - B/mixture.wav", "song.mp3", "song.flac"], ".png")
    ['A - B - mixture.png', 'song.png', 'song (2).png']
    """
    stems = [_for_a_file(PurePosixPath(name).with_suffix("").as_posix()).replace("/", " - ") for name in names]
    found: list[str] = []
    taken: set[str] = set()
    for stem in stems:
        name, number = _shortened(stem, suffix), 1
        while name.casefold() in taken:
            number += 1
            name = _shortened(stem, f" ({number}){suffix}")
        taken.add(name.casefold())
        found.append(name)
    return found


def refuse_clashes(outputs: Sequence[Path | None], songs: Sequence[Path]) -> None:
    """Raises MixstyleError (bad-option) where an output is one of the songs, or another output."""
    taken: set[Path] = set()
    for output in outputs:
        if output is None:
            continue
        if output.exists() and any(song.exists() and output.samefile(song) for song in songs):
            raise MixstyleError(f"{output}: is one of the songs; name another file to write", code="bad-option")
        if output.resolve() in taken:
            raise MixstyleError(f"{output}: is given for two outputs; give each its own name", code="bad-option")
        taken.add(output.resolve())


def _parts(path: Path) -> tuple[str, ...]:
    """The parts of a path's own spelling, links kept; of `.` and the like those of the folder it means."""
    return (path if path.name and ".." not in path.parts else path.resolve()).absolute().parts


def _numbered(names: Sequence[str]) -> list[str]:
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _for_a_file(name: str) -> str:
    """The name as it is printed; what the system's encoding of file names has no bytes for, with backslashes."""
    encoding = sys.getfilesystemencoding()
    return printable(name).encode(encoding, "backslashreplace").decode(encoding)


def _shortened(stem: str, suffix: str) -> str:
    """A name of at most LONGEST_NAME_BYTES: a long one ends in a hash of all of it."""
    name = stem + suffix
    if len(os.fsencode(name)) <= LONGEST_NAME_BYTES:
        return name
    ending = f"~{hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]}{suffix}"
    kept = stem.encode("utf-8", "ignore")[: LONGEST_NAME_BYTES - len(ending.encode())]
    return kept.decode("utf-8", "ignore") + ending
