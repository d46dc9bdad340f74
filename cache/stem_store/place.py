"""Shards where they are kept, in a folder or behind a URL: which are done, and how a new one gets there."""

import json
from collections.abc import Iterable
from pathlib import Path

from mixstyle.cache.stem_store.shards import (
    ShardInfo,
    TrackRecord,
    hashed_name,
    read_shard,
    sidecar_path,
    tar_path,
    write_shard,
)
from mixstyle.cache.storage.place import Place, place_of

SMALL = (".json", ".gz", ".csv", ".again")
"""Endings of what a working folder has copies of: all but the tars."""


def stems_place(location: Path, cache_dir: Path) -> Place:
    """Where a stage keeps its shards. location: a folder, or a URL as a path. cache_dir: for the working folder."""
    return place_of(location, cache_dir / "making", is_small)


def is_small(name: str) -> bool:
    """Whether a working folder has a copy of it."""
    return name.endswith(SMALL)


def kept_shard(place: Place, number: int) -> ShardInfo | None:
    """As `read_shard`, by what was there at the last look."""
    return read_shard(place.folder, number, place.sizes)


def look_for(place: Place, number: int) -> None:
    """Looks whether another process has finished a shard."""
    sidecar = sidecar_path(place.folder, number)
    place.look(sidecar.name)
    if place.is_remote and sidecar.exists():
        names = [tar_path(place.folder, number).name]
        try:
            names.append(hashed_name(number, json.loads(sidecar.read_bytes())["sha256"]))
        except (OSError, ValueError, KeyError, TypeError):
            return  # told where it is read
        place.look(*names)


def keep_shard(
    place: Place, number: int, tracks: Iterable[TrackRecord], fingerprint: str, tries: int = 1, machine: str = ""
) -> ShardInfo:
    """As `write_shard`; where another process was faster with the same shard, the shard as that one made it."""

    def fits(sidecar: bytes) -> bool:
        try:
            return json.loads(sidecar).get("fingerprint") == fingerprint
        except (ValueError, AttributeError):
            return False

    with place.writing() as folder:
        shard = write_shard(folder, number, tracks, fingerprint, tries, machine)
        place.publish(shard.tar, hashed_name(number, shard.sha256), sidecar_path(folder, number), fits)
    if not place.is_remote:
        return shard
    if (kept := kept_shard(place, number)) is None:  # another process's, whose tar is not known here yet
        look_for(place, number)
        kept = kept_shard(place, number)
    return shard if kept is None else kept
