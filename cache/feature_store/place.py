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
from mixstyle.cache.storage.place import Place, working_folder
from mixstyle.cache.storage.remote_tree import RemoteTree
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.user_cache import user_cache

MACHINES = "machines.json"
"""Which machines of other kinds filled shards; beside a store in a folder, and part of one behind a URL."""


def features_place(where: Path | str | Place, cache_dir: Path | None = None) -> Place:
    """The place of a store. where: a folder, a URL or the place itself. Nothing is looked at yet.

    cache_dir: where copies of what is behind URLs are; None: in the user's cache.
    """
    if isinstance(where, Place):
        return where
    url = url_of(where)
    if not url:
        return Place(Path(where))
    folder = working_folder(url, (cache_dir or user_cache("remote")) / "features")
    return RemoteTree(url, folder, is_of_store, ROOT)


def is_of_store(name: str) -> bool:
    """Whether an object below a store's URL belongs to the store."""
    array, _, rest = name.partition("/")
    return name in (ROOT, MACHINES) or (array in ARRAYS and (rest == ROOT or rest.startswith("c/")))
