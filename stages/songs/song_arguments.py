"""The songs that a command was given: files, folders of stems, and folders of music, which stand for their files."""

from collections.abc import Sequence
from pathlib import Path

from mixstyle.cache.music.listing import list_folder, track_files
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.stages.common.commands import ANY_FOLDER
from mixstyle.stages.settings.profile import Settings


def is_stem_folder(path: Path) -> bool:
    """Whether a path is a folder that holds a stem, so that it is one song."""
    return path.is_dir() and not set(STEMS).isdisjoint(track_files(path.parent, path.name, "stems"))


def given_songs(paths: Sequence[Path]) -> list[Path]:
    """The songs of these paths, in their order; those of a folder of music in the order of their paths.

    Raises MixstyleError for a path that is not there (not-found) and for a folder without music (no-music).
    """
    songs: list[Path] = []
    for path in paths:
        if not path.exists():
            raise not_there(path)
        if path.is_dir() and not is_stem_folder(path.resolve()):
            songs += [path / name for name in sorted(music_of(path))]
        else:
            songs.append(path)
    return songs


def check_song(path: Path) -> None:
    """Raises MixstyleError for what is no one song: not there (not-found), or a folder without stems (bad-option)."""
    if not path.exists():
        raise not_there(path)
    if path.is_dir() and not is_stem_folder(path.resolve()):
        raise MixstyleError(
            f"{path}: a folder without stems, and one song is needed: name a file in it, or a folder of a song's stems",
            code="bad-option",
        )


def folder_to_index(settings: Settings) -> str:
    """The folder of music that `mixstyle index` is told to take: the profile's; `ANY_FOLDER` where there is none."""
    music = settings.separate.data_path
    return str(music) if music.is_dir() else ANY_FOLDER


def music_of(folder: Path) -> list[str]:
    """The music files below a folder, by their paths within it. Raises MixstyleError (no-music)."""
    return list(list_folder(folder, "mixtures").sizes)
