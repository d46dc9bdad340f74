"""Where an index of songs is kept: in a folder, or behind a URL with a copy of it on this machine.

Behind a URL its settings, its parts and `failures.csv` are objects of the same names and bytes. The search structure
follows from the parts: each machine makes its own, beside its copy. A part is put whole, and says itself whether it is
what was written; one machine at a time should fill an index: of two at once, one may put its part over the other's,
whose songs the next run then embeds again.
"""

import re
from pathlib import Path

from mixstyle.cache.storage.place import Place, working_folder
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.remote_tree import RemoteTree
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.user_cache import user_cache

LEFT_OUT, MACHINES = "failures.csv", "machines.json"
_PART = re.compile(r"songs-[0-9]{8}\.parquet")


def index_place(where: Path | str | Place, cache_dir: Path | None = None) -> Place:
    """The place of an index. where: a folder, a URL or the place itself. Nothing is looked at yet.

    cache_dir: where copies of what is behind URLs are; None: in the user's cache.
    """
    if isinstance(where, Place):
        return where
    url = url_of(where)
    if not url:
        return Place(Path(where))
    return RemoteTree(url, working_folder(url, (cache_dir or user_cache("remote")) / "index"), is_of_index, SETTINGS)


def is_of_index(name: str) -> bool:
    """Whether an object below an index's URL belongs to the index."""
    return name in (SETTINGS, LEFT_OUT, MACHINES) or _PART.fullmatch(name) is not None
