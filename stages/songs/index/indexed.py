"""Songs that an index holds, without the networks that made it: which of a folder are kept, and one to search with.

A song is in an index where its path, size and time of change are those of a row; a copy of it elsewhere where its
content hash is that of an indexed file of its size, which is still as it was indexed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.music.content_hash import content_hash
from mixstyle.cache.music.stems_among_music import SongsAndStems
from mixstyle.cache.music.transient_failures import is_gone, is_transient
from mixstyle.cache.song_index.index import IndexedSong, SongIndex
from mixstyle.cache.storage.provenance import SETTINGS, differences
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.song_loudness import SongLoudness
from mixstyle.stages.separate.rule_versions import rules_of_index
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.embed.provenance import embedding_fingerprint, embedding_models, index_provenance, read_index
from mixstyle.stages.songs.song_arguments import music_of


@dataclass(frozen=True, repr=False)
class KnownSong:
    """A song to search with, as far as an index has it. embedding: [E], of unit length. values: descriptors [D].
    loudness: of all of the song, where it was measured."""

    name: str
    embedding: NDArray[np.float32]
    values: NDArray[np.float32]
    loudness: SongLoudness | None

    @classmethod
    def of(cls, name: str, row: IndexedSong) -> "KnownSong":
        loudness: dict[str, Any] = {
            one: getattr(row, one) for one in ("loudness_lufs", "loudness_range_lu", "true_peak_dbtp")
        }
        measured = not np.isnan(row.loudness_lufs)
        return cls(name, row.embedding, row.descriptors, SongLoudness(**loudness) if measured else None)


def known_song(settings: Settings, song: Path) -> tuple[KnownSong, SongIndex, Path] | None:
    """A song of the settings' index, the index, and its music folder.

    None where the index does not hold the file as it is now, where nobody has loaded the encoder and the separator
    before, or where the index does not fit them or cannot be read: the way by the networks tells why.
    """
    place = settings.embed.index_dir
    models = embedding_models(settings) if (place / SETTINGS).is_file() and song.is_file() else None
    facts = models.facts() if models is not None else None
    if not facts:
        return None
    try:
        stored, root = read_index(place / SETTINGS)
        rules = rules_of_index(place)
        now = index_provenance(embedding_fingerprint(**facts, options=settings.separate, rules=rules), root)
        if differences(stored, now):
            return None
        songs = SongIndex(place)
        row = row_of(songs, root, song)
    except (MixstyleError, OSError):
        return None
    return None if row is None else (KnownSong.of(song.name, row), songs, root)


def row_of(songs: SongIndex, root: Path, song: Path) -> IndexedSong | None:
    """The row of a file, or of one with the same content; None where there is none. Raises OSError for a file that
    cannot be read."""
    resolved, stat = song.resolve(), song.stat()
    own = resolved.relative_to(root.resolve()).as_posix() if resolved.is_relative_to(root.resolve()) else ""
    if own in songs:
        row = songs[own]
        unchanged = (row.bytes, row.modified_ns) == (stat.st_size, stat.st_mtime_ns)
        return row if unchanged and not row.reason else None
    alike = [row for row in songs.usable if row.bytes == stat.st_size]
    wanted = content_hash(song) if alike else ""
    for row in alike:
        path = root / row.path
        if path.is_file() and is_kept(songs, root, row.path, _size_and_time(path)) and content_hash(path) == wanted:
            return row
    return None


def files_of(root: Path, music: SongsAndStems | None = None) -> dict[str, tuple[int, int]]:
    """Size and time of change of each song below a folder, by its path within it. music: its `music_of`, where it was
    listed before."""
    found = {}
    for path in (music or music_of(root)).songs:
        try:
            found[path] = _size_and_time(root / path)
        except OSError:  # a link to nothing, or just removed: told like any song that cannot be read
            found[path] = -1, 0
    return found


def is_kept(songs: SongIndex, root: Path, path: str, stat: tuple[int, int]) -> bool:
    """Whether a file of the music folder is in the index as it is now. stat: its size and time of change.

    One that may have failed for the machine's sake is not, nor one that can be read now: it is tried again.
    """
    if not is_as_indexed(songs, path, stat):
        return False
    return not (is_transient(songs[path].reason) or is_gone(songs[path].reason, root / path))


def is_as_indexed(songs: SongIndex, path: str, stat: tuple[int, int]) -> bool:
    """Whether the index has a row of the file as it is now, be it one of a file that could not be used."""
    return path in songs and (songs[path].bytes, songs[path].modified_ns) == stat


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
