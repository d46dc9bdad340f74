"""The manifest: which tracks there are, in which order, in which shard, on which side of the split.

`plan.jsonl.gz` beside the shards (the name that every folder has it under), format version 1: JSON lines. The first
says `version`, `root`, `tracks`, `grouped_by` and `cutting_version` (of the rule that cuts the tracks,
`mixstyle.cache.music.clip_positions`; 1 where it is missing); each further one is a track in the manifest's order:
`track_id`, `path`, `size`, `group`, `split` and, where known, `artist`, `licence`, `spot`. Equal music and settings
give equal bytes. Everything in it follows from the listing and the settings, never from the order in which a disk lists
its files.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.content_hash import MusicFile, duplicates
from mixstyle.cache.music.listing import Listing, refuse_twice, track_files
from mixstyle.cache.music.remote_music import opened
from mixstyle.cache.storage.atomic import write_bytes
from mixstyle.cache.storage.urls import not_there, shown
from mixstyle.pipeline.core.errors import MixstyleError, one_line

MANIFEST = "plan.jsonl.gz"
"""Its name beside the shards."""
VERSION = 1
LONGEST_NUMBER = 18
"""Digits of a track's number."""
LEAST_FOLDERS = 10
"""Top folders count as artists from this many on: fewer could not be shared out among three sides."""


@dataclass(frozen=True, slots=True)
class ListedTrack:
    """A track of the manifest. index: its place. path: posix, relative to the music folder. group: what the split keeps
    together."""

    index: int
    track_id: str
    path: str
    group: str
    split: str
    licence: str = ""


@dataclass(frozen=True)
class Manifest:
    """All tracks in order. grouped_by: what the split went by, for people. cutting_version: of the rule that cuts them
    (`mixstyle.cache.music.clip_positions`)."""

    listing: Listing
    tracks: tuple[ListedTrack, ...]
    grouped_by: str
    cutting_version: int = CUTTING_VERSION

    def n_shards(self, tracks_per_shard: int) -> int:
        return -(-len(self.tracks) // tracks_per_shard)

    def shard(self, number: int, tracks_per_shard: int) -> tuple[ListedTrack, ...]:
        """The tracks of one shard."""
        return self.tracks[number * tracks_per_shard : (number + 1) * tracks_per_shard]


@dataclass(frozen=True)
class SplitSettings:
    """What the split goes by. Fractions are of the groups."""

    seed: int
    validation_fraction: float
    test_fraction: float
    tracks_csv: Path | None = None


def track_id_of(path: str) -> str:
    """12 hex digits of the SHA-256 of a track's relative path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:12]


def ordered(listing: Listing, seed: int) -> list[str]:
    """Paths in the order of the manifest: by a hash of seed and path, so that every shard is a mixture of the whole."""
    return sorted(listing.sizes, key=lambda path: hashlib.sha256(f"{seed}|".encode() + os.fsencode(path)).digest())


def make_manifest(
    listing: Listing,
    kind: Literal["mixtures", "stems"],
    split: SplitSettings,
    find_duplicates: bool = True,
    cutting_version: int = CUTTING_VERSION,
) -> Manifest:
    """Orders the tracks and splits them by artist where it is known, else by track.

    The artist comes from FMA's tracks.csv, from the list's column `artist`, from song folders named `Artist - Title`
    (of stems, or of mixtures beside their stems), or is the top folder where there are at least 10 that are not mere
    numbers, as FMA's are. Tracks with identical audio go to one side, and so does all that is grouped with them. A side
    with a fraction above 0 gets at least one group where there are three.
    """
    groups, licences, grouped_by = _groups(listing, kind, split.tracks_csv)
    if find_duplicates:
        _join_duplicates(listing, kind, groups)
    sides = _sides(sorted(set(groups.values())), split)
    tracks = tuple(
        ListedTrack(index, track_id_of(path), path, groups[path], sides[groups[path]], licences.get(path, ""))
        for index, path in enumerate(ordered(listing, split.seed))
    )
    by_id: dict[str, str] = {}
    for track in tracks:
        other = by_id.setdefault(track.track_id, track.path)
        if other != track.path:
            raise MixstyleError(f"{track.path}: has the same hash as {other}; rename one of them", code="misfit")
    return Manifest(listing, tracks, grouped_by, cutting_version)


def store_manifest(path: Path, manifest: Manifest) -> None:
    """Writes a manifest atomically."""
    listing = manifest.listing
    head = {
        "version": VERSION,
        "root": shown(listing.root),
        "tracks": len(manifest.tracks),
        "grouped_by": manifest.grouped_by,
    }
    if manifest.cutting_version > 1:
        head["cutting_version"] = manifest.cutting_version
    lines = [json.dumps(head, sort_keys=True)]
    for track in manifest.tracks:
        entry = {
            "track_id": track.track_id,
            "path": track.path,
            "size": listing.sizes[track.path],
            "group": track.group,
            "split": track.split,
            "licence": track.licence,
            "artist": listing.artists.get(track.path, ""),
            "listed_licence": listing.licences.get(track.path, ""),
            "spot": listing.spot.get(track.path, ""),
        }
        lines.append(json.dumps({key: value for key, value in entry.items() if value != ""}, sort_keys=True))
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        file.write("".join(line + "\n" for line in lines).encode())
    write_bytes(path, buffer.getvalue())


def load_manifest(path: Path) -> Manifest | None:
    """The stored manifest; None where there is none. Raises MixstyleError for a damaged one or an unknown version."""
    if not path.exists():
        return None
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        head, *entries = [json.loads(line) for line in lines]
    except (OSError, EOFError, ValueError, zlib.error, RecursionError) as error:
        raise _damaged(path, one_line(error)) from error
    if not isinstance(head, dict):
        raise _damaged(path, "its first line is not a JSON object")
    if head.get("version") != VERSION:
        raise MixstyleError(
            f"{path}: version {head.get('version')!r} of the manifest, not {VERSION}; delete it, then",
            code="unknown-version",
            remedy=("separate",),
        )
    if head.get("tracks") != len(entries):
        raise _damaged(path, f"{len(entries)} tracks of {head.get('tracks')}")

    try:
        return _parsed(head, entries)
    except (KeyError, TypeError, AttributeError) as error:
        raise _damaged(path, f"lacks {error}") from error


def _parsed(head: dict[str, Any], entries: list[dict[str, Any]]) -> Manifest:
    """The manifest in its first line and its tracks."""

    def column(name: str) -> dict[str, str]:
        return {entry["path"]: entry[name] for entry in entries if name in entry}

    sizes = {entry["path"]: entry["size"] for entry in entries}
    listing = Listing(Path(head["root"]), sizes, column("artist"), column("listed_licence"), column("spot"))
    tracks = tuple(
        ListedTrack(index, entry["track_id"], entry["path"], entry["group"], entry["split"], entry.get("licence", ""))
        for index, entry in enumerate(entries)
    )
    return Manifest(listing, tracks, head["grouped_by"], head.get("cutting_version", 1))


def _damaged(path: Path, what: str) -> MixstyleError:
    return MixstyleError(
        f"{path}: a damaged manifest ({what}); delete it, then", code="damaged-file", remedy=("separate",)
    )


def _groups(listing: Listing, kind: str, tracks_csv: Path | None) -> tuple[dict[str, str], dict[str, str], str]:
    """Each track's group, the licences that a list or tracks.csv tells, and what the groups are."""
    groups = {path: f"track {path}" for path in listing.sizes}
    licences = dict(listing.licences)
    if tracks_csv is not None:
        artists, told = read_fma_tracks(tracks_csv)
        numbers = {path: int(name) for path in groups if (name := PurePosixPath(path).stem).isdecimal()}
        groups.update({path: f"artist {artists[n]}" for path, n in numbers.items() if n in artists})
        licences.update({path: told[n] for path, n in numbers.items() if n in told})
        return groups, licences, f"artist, by {tracks_csv.name}"
    if listing.artists:
        groups.update({path: f"artist {artist}" for path, artist in listing.artists.items()})
        return groups, licences, "artist, by the list"
    named = {path: name.partition(" - ") for path, name in _song_folders(listing, kind).items()}
    known = {path: f"artist {artist.strip()}" for path, (artist, dash, _) in named.items() if dash}
    if known:
        groups.update(known)
        return groups, licences, "artist, by the song folders' names"
    folders = {path: parts[0] for path in groups if len(parts := PurePosixPath(path).parts) > 1 and parts[0] != "/"}
    if len(set(folders.values())) >= LEAST_FOLDERS and not all(name.isdecimal() for name in folders.values()):
        groups.update({path: f"artist {folder}" for path, folder in folders.items()})
        return groups, licences, "artist, by top folder"
    return groups, licences, "track"


def _song_folders(listing: Listing, kind: str) -> dict[str, str]:
    """What the folder of each track's song is called; empty where songs have no folders of their own.

    They have where a track is a folder of stems, or where each is the mixture of one (MUSDB18-HQ).
    """
    if kind == "stems":
        return {path: PurePosixPath(path).name for path in listing.sizes}
    mixed = set(listing.found.mixed) if listing.found else set()
    parents = {path: PurePosixPath(path).parent for path in listing.sizes}
    if mixed and all(parent.as_posix() in mixed for parent in parents.values()):
        return {path: parent.name for path, parent in parents.items()}
    return {}


def read_fma_tracks(path: Path) -> tuple[dict[int, str], dict[int, str]]:
    """Artists and licences by track number from FMA's tracks.csv, whose first two rows name the columns.

    Raises MixstyleError where it is no such file, or not there.
    """
    if not path.is_file():
        raise not_there(path, named_by="separate.tracks_csv=")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, strict=True)  # else a quotation mark that is not closed hides rows
            names = list(zip(next(rows, []), next(rows, []), strict=False))
            if ("artist", "id") not in names:
                raise MixstyleError(
                    f"separate.tracks_csv={path}: has no column artist/id; FMA's tracks.csv has", code="bad-list"
                )
            read = [column for column in names if column in (("artist", "id"), ("track", "license"))]
            refuse_twice(["/".join(column) for column in read], f"separate.tracks_csv={path}")
            artist = names.index(("artist", "id"))
            licence = names.index(("track", "license")) if ("track", "license") in names else None
            kept = [row for row in rows if row and _is_number(row[0]) and len(row) == len(names)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MixstyleError(f"separate.tracks_csv={path}: cannot be read ({error})", code="bad-list") from error
    artists = {int(row[0]): row[artist] for row in kept if row[artist]}
    licences = {int(row[0]): row[licence] for row in kept if row[licence]} if licence is not None else {}
    return artists, licences


def _is_number(text: str) -> bool:
    """Whether a cell is the number of a track; Python refuses to read numbers of thousands of digits."""
    return text.isdecimal() and len(text) <= LONGEST_NUMBER


def _join_duplicates(listing: Listing, kind: Literal["mixtures", "stems"], groups: dict[str, str]) -> None:
    """Gives the groups of tracks with identical audio one name, the first of theirs in the alphabet."""
    files = {path: tuple(map(opened, track_files(listing.root, path, kind).values())) for path in listing.sizes}
    first_of = {
        path: same[0] for same in duplicates(file for several in files.values() for file in several) for path in same
    }
    by_content: dict[tuple[MusicFile, ...], list[str]] = defaultdict(list)
    for path, several in files.items():
        if several:
            by_content[tuple(first_of.get(file, file) for file in several)].append(path)
    parent = {group: group for group in groups.values()}

    def top(group: str) -> str:
        while parent[group] != group:
            parent[group] = parent[parent[group]]
            group = parent[group]
        return group

    for same in by_content.values():
        tops = sorted({top(groups[path]) for path in same})
        for other in tops[1:]:
            parent[other] = tops[0]
    for path, group in groups.items():
        groups[path] = top(group)


def _sides(groups: Sequence[str], split: SplitSettings) -> dict[str, str]:
    """A group's side depends on its own hash alone, but for the one that an empty side is given."""

    def place(group: str) -> float:
        digest = hashlib.sha256(f"{split.seed}|split|".encode() + os.fsencode(group)).digest()
        return int.from_bytes(digest[:8], "big") / 2**64

    places = {group: place(group) for group in groups}
    sides = {}
    left = sorted(groups, key=places.__getitem__)
    limit = 0.0
    for side, fraction in (("validation", split.validation_fraction), ("test", split.test_fraction)):
        limit += fraction
        taken = [group for group in left if places[group] < limit]
        if not taken and fraction > 0 and len(groups) >= 3:
            taken = left[:1]
        sides.update(dict.fromkeys(taken, side))
        left = left[len(taken) :]
    return {**sides, **dict.fromkeys(left, "train")}
