"""Small objects as they are stored: an answer that was damaged on the way is not taken for them.

An answer counts where its MD5 is the object's tag (most stores tag what was put whole so), where it is JSON with a
checksum that fits, or where two answers are alike. What comes damaged each time is as it is stored, for all that can be
told here: its readers tell of it.
"""

import hashlib
from pathlib import Path
from typing import Protocol

from mixstyle.cache.storage.atomic import json_checksum_fits, sha256_file
from mixstyle.cache.storage.remote_store import TRIES, RemoteStore


def read_as_stored(store: RemoteStore, name: str, tag: str) -> bytes:
    """All of an object. tag: of the store. Raises MixstyleError as `RemoteStore.read` does."""
    data = store.read(name)
    for _ in range(TRIES):
        if is_md5_of(tag, data) or json_checksum_fits(data):
            break
        before, data = data, store.read(name)
        if data == before:
            break
    return data


def download_as_stored(store: RemoteStore, name: str, target: Path, tag: str) -> str:
    """Writes an object to a file of this machine; its SHA-256. Raises MixstyleError as `RemoteStore.download` does.

    tag: of the store, or the SHA-256 that it should have.
    """
    before = sha256 = ""
    for _ in range(TRIES):
        store.download(name, target)
        sha256 = sha256_file(target)
        with target.open("rb") as file:
            if sha256 in (before, tag) or hashlib.file_digest(file, _md5).hexdigest() == tag:
                break
        before = sha256
    return sha256


class _Hashes(Protocol):
    def sha256(self, name: str, size: int) -> str: ...


def differs(store: _Hashes, name: str, size: int, sha256: str) -> bool:
    """Whether the first `size` bytes of an object, or of a file, are others than those of a SHA-256, read after read.

    Raises MixstyleError as `RemoteStore.sha256` does.
    """
    return all(store.sha256(name, size) != sha256 for _ in range(2))


def is_md5_of(tag: str, data: bytes) -> bool:
    """Whether a tag tells these bytes; a tag that tells nothing fits none."""
    return _md5(data).hexdigest() == tag


def _md5(data: bytes = b"") -> "hashlib._Hash":
    return hashlib.md5(data, usedforsecurity=False)
