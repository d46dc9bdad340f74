"""Folders of stems among the music of a folder: their files are parts of a song, and no songs.

That is how MUSDB18-HQ, MSST and Demucs write them: a folder for each song, with `vocals.wav`, `drums.wav` and so on,
and often the mix itself beside them (`mixture.wav`).
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.music.formats import STEM_NAMES, STEM_SUFFIXES
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.core.text import counted

_PARTS = STEM_NAMES | {"instrumental", "accompaniment", *(f"no_{stem}" for stem in STEM_NAMES)}
"""What separators call stems, and the sums of all stems but one."""
_MIXTURE = "mixture"
FEWEST = 2
"""Parts of a song that a folder of stems holds at least, where no mixture is beside: one file may well be a song that
is called `Other`."""


@dataclass(frozen=True)
class SongsAndStems:
    """songs: files that are songs, a folder's mixture among them. mixed, unmixed: folders of stems (`.` for the folder
    itself) with a song beside the stems, and those without. All are sorted and relative to one folder."""

    songs: tuple[str, ...]
    mixed: tuple[str, ...]
    unmixed: tuple[str, ...]

    @property
    def stem_folders(self) -> int:
        return len(self.mixed) + len(self.unmixed)

    def told(self, unmixed: str) -> str:
        """How many folders of stems there are and what becomes of them. unmixed: of those without a mixture.

        >>> SongsAndStems((), ("a",), ("b",)).told("left out")
        '2 folders of stems; 1 with a mixture, which is the song; 1 without a mixture (b): left out'
        """
        lines = [counted(self.stem_folders, "folder") + " of stems"]
        if self.mixed:
            lines.append(f"{len(self.mixed)} with a mixture, which is the song")
        if self.unmixed:
            lines.append(f"{len(self.unmixed)} without a mixture ({_first_of(self.unmixed)}): {unmixed}")
        return "; ".join(lines)


def songs_and_stems(files: Iterable[str]) -> SongsAndStems:
    """Tells the songs among music files (posix paths) from stems.

    >>> songs_and_stems(["a.mp3", "b/bass.wav", "b/drums.wav", "b/mixture.wav", "c/no_vocals.wav", "c/vocals.wav"])
    SongsAndStems(songs=('a.mp3', 'b/mixture.wav'), mixed=('b',), unmixed=('c',))
    """
    songs: list[str] = []
    named: dict[str, dict[str, str]] = {}
    for path in files:
        folder, _, file = path.rpartition("/")
        if name := _part_named(file):
            named.setdefault(folder or ".", {})[path] = name
        else:
            songs.append(path)
    stems = {folder for folder, found in named.items() if _are_stems(found.values())}
    for folder, found in named.items():
        songs += [path for path, name in found.items() if folder not in stems or name == _MIXTURE]
    beside = {path.rpartition("/")[0] or "." for path in songs} if stems else set()
    return SongsAndStems(tuple(sorted(songs)), tuple(sorted(stems & beside)), tuple(sorted(stems - beside)))


def is_stem_folder(path: Path) -> bool:
    """Whether a path is a folder of a song's stems, so that it is one song: at least two parts of a song, or one
    beside its mixture, with one of the four stems among them. An album with a song called `Other` is none."""
    try:
        return _are_stems(map(_part_named, os.listdir(path)))  # noqa: PTH208 (names alone, ten times as fast)
    except (OSError, ValueError):  # no folder, or none that can be read
        return False


def _part_named(file: str) -> str:
    """Which part of a song a file is by its name, or its mixture; empty for others."""
    name, suffix = os.path.splitext(file.lower())  # noqa: PTH122 (a million of them)
    return name if suffix in STEM_SUFFIXES and (name in _PARTS or name == _MIXTURE) else ""


def _are_stems(names: Iterable[str]) -> bool:
    """Whether the parts that are in one folder are those of one song."""
    found = {*names}
    parts = found & _PARTS
    return not parts.isdisjoint(STEMS) and (len(parts) >= FEWEST or _MIXTURE in found)


def _first_of(folders: Sequence[str]) -> str:
    return folders[0] if len(folders) == 1 else f"{folders[0]}, ..."
