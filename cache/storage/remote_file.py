"""A single file that may be behind a URL, such as an encoder: the file of this machine, or a checked copy of it.

A URL names an object as it is, or a file of a folder that `remote_folder` keeps there (`s3://bucket/run/best_model.pt`).
The copy of an object is in a folder of its own, under the object's name, and beside it `.NAME.known.json`: length and
tag of the object, and the SHA-256 of what was copied. A copy that is not of the object as it is now, or that has
changed since, is made again. The store is asked each time: what cannot be reached is not read from a copy that may be
old.
"""

import contextlib
from pathlib import Path

from mixstyle.cache.storage.as_stored import download_as_stored
from mixstyle.cache.storage.atomic import json_with_checksum, own_partial, publish, read_json, sha256_file
from mixstyle.cache.storage.place import working_folder
from mixstyle.cache.storage.remote_folder import RemoteFolder, name_by_url
from mixstyle.cache.storage.remote_store import TRIES, RemoteStore, Stored
from mixstyle.cache.storage.urls import url_of
from mixstyle.cache.storage.user_cache import user_cache
from mixstyle.cache.storage.writable import make_folder
from mixstyle.pipeline.core.errors import MixstyleError


def fetched_file(location: Path | str, cache_dir: Path | None = None, *beside: str) -> Path:
    """A file of this machine as it is; of one behind a URL a copy. A path of this machine is not looked at.

    cache_dir: where copies are; None: in the user's cache. beside: files of the same folder that are copied too, where
    they are there. Raises MixstyleError as `RemoteStore` does ("not-found" where there is no such file), and
    "damaged-file" for what is not what was sent.
    """
    url = url_of(location)
    if not url:
        return Path(location)
    parent, _, name = url.rpartition("/")
    if not url_of(parent):
        raise MixstyleError(f"{url}: names no file below a bucket", code="bad-setting")
    working = working_folder(parent, cache_dir or user_cache("remote"))
    store = RemoteStore(parent)
    if store.stored(name) is None:
        return _of_kept_folder(parent, working.with_name(f"{working.name}-read"), name, beside)
    folder = working.with_name(f"{working.name}-objects")
    name_by_url(folder, store.url)
    for other in beside:
        if _copied(store, other, folder) is None:
            (folder / other).unlink(missing_ok=True)
    copy = _copied(store, name, folder)
    if copy is None:
        raise MixstyleError(f"{url}: not there", code="not-found")
    return copy


def _of_kept_folder(url: str, working: Path, name: str, beside: tuple[str, ...]) -> Path:
    folder = RemoteFolder(url, working)
    folder.look()
    if name not in folder.files:
        raise folder.damage or MixstyleError(f"{url}/{name}: not there", code="not-found")
    folder.fetch(name, *beside)
    return working / name


def _copied(store: RemoteStore, name: str, folder: Path) -> Path | None:
    """A copy of an object as it is now; None where there is none."""
    copy = folder / name
    for _ in range(TRIES):
        stored = store.stored(name)
        if stored is None:
            return None
        if _is_of(copy, stored):
            return copy
        make_folder(folder)
        temporary = own_partial(copy)
        try:
            sha256 = download_as_stored(store, name, temporary, stored.tag)
            if store.stored(name) != stored or temporary.stat().st_size != stored.size:
                continue
            publish(temporary, copy)
        except MixstyleError as error:
            if error.code != "not-found":
                raise
            continue
        finally:
            temporary.unlink(missing_ok=True)
        _note(copy, stored, sha256)
        return copy
    raise MixstyleError(f"{store.url}/{name}: changes while it is read", code="remote")


def _is_of(copy: Path, stored: Stored) -> bool:
    """Whether a copy is of the object, as it was copied."""
    if not stored.tag or not copy.is_file():
        return False
    try:
        known = read_json(_known(copy))
        return (known["bytes"], known["tag"], known["sha256"]) == (stored.size, stored.tag, sha256_file(copy))
    except (MixstyleError, OSError, KeyError, TypeError):
        return False


def _note(copy: Path, stored: Stored, sha256: str) -> None:
    """Writes down what a copy is of. Without it the copy is made again the next time."""
    temporary = own_partial(_known(copy))
    with contextlib.suppress(OSError):
        temporary.write_text(json_with_checksum({"bytes": stored.size, "tag": stored.tag, "sha256": sha256}))
        temporary.replace(_known(copy))


def _known(copy: Path) -> Path:
    return copy.with_name(f".{copy.name}.known.json")
