"""The songs that a command was given: files, folders of stems, and folders of music, which stand for their files."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mixstyle.cache.music.listing import list_folder
from mixstyle.cache.music.stems_among_music import SongsAndStems, is_stem_folder, songs_and_stems
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.commands import ANY_FOLDER
from mixstyle.stages.common.progress import remark
from mixstyle.stages.settings.profile import Settings


def given_songs(paths: Sequence[Path]) -> list[Path]:
    """The songs of these paths, in their order; those of a folder of music in the order of their paths.

    Of a folder of stems among the music, the mixture is the song; where there is none, the folder is, whose stems are
    then taken as they are. Both are told. Raises MixstyleError for a path that is not there (not-found) and for a
    folder without music (no-music).
    """
    songs: list[Path] = []
    for path in paths:
        if not path.exists():
            raise not_there(path)
        if path.is_dir() and not is_stem_folder(path.resolve()):
            found = _found_in(path)
            songs += [path / name for name in sorted((*found.songs, *found.unmixed))]
            if found.stem_folders:
                remark(f"{path}: {found.told('their stems are taken as they are')}")
        else:
            songs.append(path)
    return songs


def check_song(path: Path) -> None:
    """Raises MixstyleError for what is no one song: not there (not-found), or a folder without stems (bad-option)."""
    if not path.exists():
        raise not_there(path)
    if path.is_dir() and not is_stem_folder(path.resolve()):
        raise MixstyleError(
            f"{path}: a folder, but not of a song's stems, and one song is needed: name a file in it",
            code="bad-option",
        )


def folder_to_index(settings: Settings) -> str:
    """The folder of music that `mixstyle index` is told to take: the profile's; `ANY_FOLDER` where there is none."""
    music = settings.separate.data_path
    return str(music) if music.is_dir() else ANY_FOLDER


def music_of(folder: Path) -> SongsAndStems:
    """The songs below a folder, by their paths within it, and the folders of stems among them.

    Raises MixstyleError (no-music), also where there is nothing but stems.
    """
    found = _found_in(folder)
    if not found.songs:
        raise MixstyleError(
            f"{folder}: {found.told('songs are indexed from their mixes')}; to embed the stems as they are,",
            code="no-music",
            remedy=("embed", str(folder), "-o", "embeddings.parquet"),
        )
    return found


def stem_folders_passed_over(folder: Path, found: SongsAndStems) -> str:
    """What is said of the folders of stems below a folder whose mixes alone are taken; empty where there are none.
    found: its `music_of`."""
    if not found.stem_folders:
        return ""
    first = folder / found.unmixed[0] if found.unmixed else folder
    again = shlex.join(("mixstyle", "embed", str(first), "-o", "embeddings.parquet"))
    return found.told(f"left out; `{again}` takes the stems")


def _found_in(folder: Path) -> SongsAndStems:
    listing = list_folder(folder, "mixtures")
    return listing.found or songs_and_stems(listing.sizes)
