"""Whether a descriptor store holds what was written into it: checksums, and what can be told without them.

Every chunk of a store has its CRC-32C (the codec `crc32c` of Zarr v3), which is checked when it is read. That a chunk
is there at all, and is the right one, is told by hashes: `keys_sha256` in the attributes, `rows_sha256` for each shard.
The attributes have a hash of their own (`checksum`), and the arrays' metadata are stored twice, once consolidated
in the group's. Stores of earlier versions have no checksums and no hashes; in these, a row without descriptors and
without a reason is what tells of a lost chunk.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixstyle.cache.storage.atomic import read_json

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError, RecursionError)
"""What zarr and its codecs raise over damaged files; they have no common kind."""
CHECKSUM = "checksum"
_BLOSC_HEADER = 16
"""Bytes; the last four are the size of the whole."""


def attributes_checksum(attributes: Mapping[str, Any]) -> str:
    """64 hex digits of the SHA-256 of a group's attributes but for the checksum itself."""
    content = {name: value for name, value in attributes.items() if name != CHECKSUM}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def keys_digest(columns: Sequence[Sequence[str]]) -> str:
    """64 hex digits of the SHA-256 of columns of text."""
    return hashlib.sha256(json.dumps([list(column) for column in columns]).encode()).hexdigest()


def rows_digest(
    values: NDArray[np.floating], start_s: NDArray[np.floating], reason: Sequence[str], shard_sha256: str
) -> str:
    """64 hex digits of the SHA-256 of a shard's rows: values [n, D], starts [n], reasons [n], and whose stems they are.

    Every NaN counts as the same.
    """
    digest = hashlib.sha256()
    for array, kind in ((values, "<f4"), (start_s, "<f8")):
        plain = np.array(array, dtype=kind)
        plain[np.isnan(plain)] = np.nan
        digest.update(plain.tobytes())
    digest.update(json.dumps([list(reason), shard_sha256]).encode())
    return digest.hexdigest()


def metadata_problem(path: Path, attributes: Mapping[str, Any]) -> str:
    """What is wrong with a store's attributes or its arrays' metadata; empty where nothing is.

    Raises one of `UNREADABLE`, or MixstyleError, for files that are no metadata at all.
    """
    if attributes.get(CHECKSUM, attributes_checksum(attributes)) != attributes_checksum(attributes):
        return "its attributes differ from those that were written"
    consolidated = (read_json(path / "zarr.json").get("consolidated_metadata") or {}).get("metadata") or {}
    for name, metadata in sorted(consolidated.items()):
        if not (path / name / "zarr.json").is_file():
            return f"{name}/zarr.json is missing"
        if read_json(path / name / "zarr.json") != metadata:
            return f"the metadata of {name} differ from those that were written"
    return ""


def cut_chunks(path: Path, name: str) -> list[int]:
    """Chunks of an array (by their first number) that end before, or after, where Blosc's header says they do.

    Its decoder takes that on trust and would read beyond what is there: a checksum tells before, where there is one.
    """
    found = []
    for chunk in sorted((path / name / "c").rglob("*")):
        if chunk.is_file() and not chunk.name.endswith(".partial"):
            with chunk.open("rb") as file:
                header = file.read(_BLOSC_HEADER)
            size = chunk.stat().st_size
            if len(header) < _BLOSC_HEADER or int.from_bytes(header[12:16], "little") != size:
                found.append(int(chunk.relative_to(path / name / "c").parts[0]))
    return found


def missing_rows(values: NDArray[np.floating], start_s: NDArray[np.floating], reason: Sequence[str]) -> int:
    """How many rows have neither a reason nor all of what a clip with descriptors has."""
    without = np.array([not text for text in reason], dtype=bool)
    return int((without & ~(np.isfinite(values).all(axis=1) & np.isfinite(start_s))).sum())
