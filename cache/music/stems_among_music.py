"""Folders of stems among the music of a folder: their files are parts of a song, and no songs.

That is how MUSDB18-HQ, MSST and Demucs write them: a folder for each song, with `vocals.wav`, `drums.wav` and so on,
and often the mix itself beside them (`mixture.wav`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from mixstyle.cache.music.listing import STEM_NAMES, STEM_SUFFIXES
from mixstyle.pipeline.core.stems import STEMS

_SUMS = frozenset({"instrumental", "accompaniment", *(f"no_{stem}" for stem in STEM_NAMES)})
"""What separators call the sum of all stems but one."""
FEWEST = 2
"""Parts of a song that a folder of stems holds at least: one file may well be a song that is called `Other`."""


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


def songs_and_stems(files: Iterable[str]) -> SongsAndStems:
    """Tells the songs among music files (posix paths) from stems.

    >>> songs_and_stems(["a.mp3", "b/bass.wav", "b/drums.wav", "b/mixture.wav", "c/no_vocals.wav", "c/vocals.wav"])
    SongsAndStems(songs=('a.mp3', 'b/mixture.wav'), mixed=('b',), unmixed=('c',))
    """
    songs: list[str] = []
    parts: dict[str, list[PurePosixPath]] = {}
    for name in files:
        path = PurePosixPath(name)
        if path.suffix.lower() in STEM_SUFFIXES and path.stem.lower() in STEM_NAMES | _SUMS:
            parts.setdefault(path.parent.as_posix(), []).append(path)
        else:
            songs.append(name)
    folders = {folder: {path.stem.lower() for path in found} for folder, found in parts.items()}
    stems = {folder for folder, names in folders.items() if len(names) >= FEWEST and not names.isdisjoint(STEMS)}
    songs += [path.as_posix() for folder in parts.keys() - stems for path in parts[folder]]
    beside = {PurePosixPath(name).parent.as_posix() for name in songs}
    return SongsAndStems(tuple(sorted(songs)), tuple(sorted(stems & beside)), tuple(sorted(stems - beside)))
