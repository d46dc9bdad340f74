"""Where a descriptor store is kept: in a folder, or behind a URL with a copy of it on this machine.

Behind a URL every file of the store is an object of the same name, so that `zarr.open_group("s3://...")` reads it too.
It is small (512 bytes a clip, compressed to less), so this machine has a whole copy (`RemoteTree`), which is what is
read and written. Nothing is renamed there:

1. A store begins with all its metadata and the clips' names; the group's `zarr.json` comes last, by a conditional put.
2. A shard's chunks are put one after the other, `done` last, and removed with `done` first. Each put is all or nothing.
3. Two machines that fill the same shard at once write equal bytes. Where they do not (machines of other kinds), what
   does not belong together is told by `rows_sha256`, and the shard counts as damaged: `features` computes it again.
"""

from pathlib import Path

from mixstyle.cache.feature_store.names import ARRAYS, ROOT
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.remote_tree import tree_place

MACHINES = "machines.json"
"""Which machines of other kinds filled shards; beside a store in a folder, and part of one behind a URL."""


def features_place(where: Path | str | Place, cache_dir: Path | None = None) -> Place:
    """The place of a store, as `tree_place` has it."""
    return tree_place(where, cache_dir, "features", is_of_store, ROOT)


def is_of_store(name: str) -> bool:
    """Whether an object below a store's URL belongs to the store."""
    array, _, rest = name.partition("/")
    return name in (ROOT, MACHINES) or (array in ARRAYS and (rest == ROOT or rest.startswith("c/")))
