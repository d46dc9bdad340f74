"""A bank that gets more blocks keeps those that it has.

No draw depends on the number of blocks, so those of a smaller bank are the first ones of a larger one, byte for byte.
What changes is the provenance, and with it the fingerprint in every sidecar. A growth that was interrupted is told by a
note in the provenance and goes on with the next run.
"""

from dataclasses import replace
from pathlib import Path

from mixstyle.cache.stem_store.shards import restamp_shard, shard_numbers, sidecar_path, tar_path
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.provenance import SETTINGS, Provenance, differences, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.progress import remark
from mixstyle.stages.remix.provenance import LATER
from mixstyle.stages.separate.provenance import MACHINE

SIZE = {"blocks": "", "tracks": ""}
"""What changes with the number of blocks alone, and is not told."""
GROWING = "growing"
"""The note in the provenance of a bank whose sidecars are being changed."""


def has_to_grow(folder: Path, provenance: Provenance) -> bool:
    """Whether the folder holds a bank that differs in having fewer blocks alone, or whose growth was interrupted."""
    stored = _stored(folder)
    if stored is None:
        return False
    if GROWING in stored.notes:
        return True
    was, now = stored.flat.get("tracks"), provenance.flat["tracks"]
    return isinstance(was, int) and was < now and not differences(stored, provenance, absent=LATER, told=SIZE)


def grow(folder: Path, provenance: Provenance) -> None:
    """Has the bank's settings say how many blocks it has now. To be called where `has_to_grow`, with all shards held.

    A last shard that was not full is taken away, since it gets more.
    """
    stored = _stored(folder)
    if stored is None:
        return
    if GROWING not in stored.notes:
        tracks, per_shard = stored.flat["tracks"], stored.flat["tracks_per_shard"]
        if tracks % per_shard:
            last = tracks // per_shard
            for path in (sidecar_path(folder, last), tar_path(folder, last)):
                path.unlink(missing_ok=True)
        remark(f"remix: {folder} grows from {stored.flat['blocks']} to {provenance.flat['blocks']} blocks")
        kept = {name: text for name, text in stored.notes.items() if name == MACHINE}  # where it was begun
        stored = replace(provenance, notes={**provenance.notes, **kept, GROWING: stored.fingerprint})
        write_json(folder / SETTINGS, stored.to_json(), checksum=True)
    for shard in shard_numbers(folder):
        restamp_shard(folder, shard, stored.fingerprint)
    whole = replace(stored, notes={name: text for name, text in stored.notes.items() if name != GROWING})
    write_json(folder / SETTINGS, whole.to_json(), checksum=True)


def _stored(folder: Path) -> Provenance | None:
    path = folder / SETTINGS
    if not path.exists():
        return None
    try:
        return read_provenance(path)
    except MixstyleError:
        return None  # `guard` tells what is wrong with it
