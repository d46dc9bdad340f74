"""Where an index of songs is kept: in a folder, or behind a URL with a copy of it on this machine.

Behind a URL its settings, its parts and `failures.csv` are objects of the same names and bytes. The search structure
follows from the parts: each machine makes its own, beside its copy. A part is put whole, and says itself whether it is
what was written; one machine at a time should fill an index: of two at once, one may put its part over the other's,
whose songs the next run then embeds again.
"""

import re
from pathlib import Path

from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.cache.storage.remote_tree import tree_place

LEFT_OUT, MACHINES = "failures.csv", "machines.json"
_PART = re.compile(r"songs-[0-9]{8}\.parquet")


def index_place(where: Path | str | Place, cache_dir: Path | None = None) -> Place:
    """The place of an index, as `tree_place` has it."""
    return tree_place(where, cache_dir, "index", is_of_index, SETTINGS)


def is_of_index(name: str) -> bool:
    """Whether an object below an index's URL belongs to the index."""
    return name in (SETTINGS, LEFT_OUT, MACHINES) or _PART.fullmatch(name) is not None
