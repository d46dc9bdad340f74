"""Which songs are of one album, soundtrack or artist, as far as stems, tags and folders tell."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import soundfile

from mixstyle.cache.stem_store.manifest import MANIFEST, load_manifest
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.settings.evaluate import GroupedBy

LEAST_SHARE = 0.5
"""A way of grouping is taken where at least this share of the songs has others in its group."""


@dataclass(frozen=True)
class SongGroups:
    """by: what the groups are, for people; empty where nothing tells. labels: each song's, or empty."""

    by: str
    labels: tuple[str, ...]

    @property
    def numbers(self) -> tuple[int, ...]:
        """Each song's group as a number; a song without a label is a group of its own."""
        places: dict[str, int] = {}
        names = [label or f"\0{place}" for place, label in enumerate(self.labels)]
        return tuple(places.setdefault(name, len(places)) for name in names)

    @property
    def sizes(self) -> list[int]:
        """Songs in each group of two and more, the largest first."""
        return sorted((n for n in Counter(self.numbers).values() if n > 1), reverse=True)


def song_groups(cache: StemCache, songs: Sequence[CachedTrack], wanted: GroupedBy = "auto") -> SongGroups:
    """Groups of songs by the manifest's artists (of FMA's tracks.csv, a list, or folders), by folder or by tag.

    `auto` takes the first of these under which half of the songs and more have others, and which tells songs apart.
    Folders are those in the music folder's first level. Tags are the artist's, else the album's, and need the music
    files where they were. Raises MixstyleError where another way was asked for and tells nothing.
    """
    ways: dict[str, tuple[str, Callable[[], list[str]]]] = {
        "manifest": ("artist, by the stems' manifest", lambda: _by_manifest(cache, songs)),
        "folder": ("folder", lambda: [_folder(song.path) for song in songs]),
        "tags": ("artist or album, by the files' tags", lambda: _by_tags(cache, songs)),
    }
    if wanted != "auto":
        ways = {wanted: ways[wanted]}
    for by, labels in ways.values():
        found = SongGroups(by, tuple(labels()))
        told = sum(found.sizes)
        if len(found.sizes) > 1 and (wanted != "auto" or told >= LEAST_SHARE * len(songs)):
            return found
    if wanted != "auto":
        raise MixstyleError(f"evaluate.group_by={wanted}: tells no two groups of songs apart", code="bad-setting")
    return SongGroups("", ("",) * len(songs))


def _by_manifest(cache: StemCache, songs: Sequence[CachedTrack]) -> list[str]:
    manifest = load_manifest(cache.stems_dir / MANIFEST)
    groups = {track.track_id: track.group for track in manifest.tracks} if manifest is not None else {}
    told = [groups.get(song.track_id, "") for song in songs]
    return [group if group.startswith("artist ") else "" for group in told]


def _folder(path: str) -> str:
    """The first folder of a track's path; of an absolute one, that which it is in."""
    parts = PurePosixPath(path).parts
    return "" if len(parts) < 2 else str(PurePosixPath(path).parent) if parts[0] == "/" else parts[0]


def _by_tags(cache: StemCache, songs: Sequence[CachedTrack]) -> list[str]:
    manifest = load_manifest(cache.stems_dir / MANIFEST)
    return [_tag(manifest.listing.root / song.path) if manifest is not None else "" for song in songs]


def _tag(path: Path) -> str:
    """A file's artist, else its album; empty where neither is there or the file is gone."""
    try:
        with soundfile.SoundFile(path) as file:
            told = file.copy_metadata()
    except (soundfile.LibsndfileError, OSError):
        return ""
    return next((f"{name} {told[name].strip()}" for name in ("artist", "album") if told.get(name, "").strip()), "")
