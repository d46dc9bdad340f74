"""What comes damaged from a store once is asked for again, and neither kept nor told as damage of what is stored."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from helpers.small_cache import make_cache

from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.as_stored import read_as_stored
from mixstyle.cache.storage.atomic import json_with_checksum
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.remote_folder import RemoteFolder
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.cache.storage.remote_tree import RemoteTree

CHECKED = json_with_checksum({"a": 1, "b": [2, 3]}).encode()
PLAIN = bytes(range(200))


class Answers:
    """Flips a bit in the first answer of every object, if it is told to; names are how often each was asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.damages, self.asked = False, dict[str, int]()
        read = RemoteStore.read

        def damaged(store: RemoteStore, name: str, *place: Any) -> bytes:
            if not place or place[1] is None:  # which reads by parts
                return read(store, name, *place)
            self.asked[name] = self.asked.get(name, 0) + 1
            data = bytearray(read(store, name, *place))
            if self.damages and self.asked[name] == 1:
                data[len(data) // 2] ^= 4
            return bytes(data)

        monkeypatch.setattr(RemoteStore, "read", damaged)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    return Answers(monkeypatch)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A store in this process, whose tags are no MD5."""
    name = f"/{request.node.originalname}"
    yield f"memory:/{name}"
    files = fsspec.filesystem("memory")
    if files.exists(name):
        files.rm(name, recursive=True)


@pytest.mark.parametrize(
    ("data", "tag", "times"),
    [(CHECKED, "", 1), (PLAIN, hashlib.md5(PLAIN).hexdigest(), 1), (PLAIN, "", 2), (PLAIN, "0" * 32, 2)],
    ids=["checksum", "md5", "no-tag", "other-tag"],
)
def test_an_answer_is_asked_for_again_until_it_is_sure(
    url: str, answers: Answers, data: bytes, tag: str, times: int
) -> None:
    store = RemoteStore(url)
    store.replace("one", data)
    answers.asked.clear()
    assert (read_as_stored(store, "one", tag), answers.asked) == (data, {"one": times})
    answers.damages = True
    answers.asked.clear()
    assert (read_as_stored(store, "one", tag), answers.asked) == (data, {"one": times + 1})


def test_copies_of_a_tree_are_as_stored(url: str, tmp_path: Path, answers: Answers) -> None:
    store, files = RemoteStore(url), {"root.json": CHECKED, "c/0": PLAIN, "c/1": PLAIN[::-1], "odd.json": b'{"a": 1}\n'}
    for name, data in files.items():
        store.replace(name, data)
    answers.damages = True
    answers.asked.clear()
    tree = RemoteTree(url, tmp_path / "copy", lambda name: True, "root.json")
    tree.refresh()
    assert {name: (tree.folder / name).read_bytes() for name in files} == files


def test_a_copy_of_a_file_is_as_stored(url: str, tmp_path: Path, answers: Answers) -> None:
    RemoteStore(f"{url}/run").replace("encoder.bin", PLAIN)
    answers.damages = True
    answers.asked.clear()
    assert fetched_file(f"{url}/run/encoder.bin", tmp_path).read_bytes() == PLAIN


def test_a_kept_folder_is_as_sent(url: str, tmp_path: Path, answers: Answers) -> None:
    sent = RemoteFolder(url, tmp_path / "sent")
    sent.fetch()
    (sent.folder / "latest.pt").write_bytes(PLAIN)
    sent.send()
    answers.damages = True
    answers.asked.clear()
    got = RemoteFolder(url, tmp_path / "got")
    got.fetch()
    assert ((got.folder / "latest.pt").read_bytes(), got.damage) == (PLAIN, None)
    answers.asked.clear()
    got.check("latest.pt")  # raises where it differs
    assert len(answers.asked) == 1


def test_stems_of_which_every_answer_comes_damaged_once(tmp_path: Path, answers: Answers) -> None:
    make_cache(tmp_path / "stems", tracks=2, clips=2, clip_s=0.3, validation=0, per_shard=1)
    here = StemCache(tmp_path / "stems")
    answers.damages = True
    remote = RemoteStemCache(f"file://{tmp_path}/stems", tmp_path / "kept", 1e9)
    for track, there in zip(here.tracks, remote.tracks, strict=True):
        for clip, other in zip(track.clips, there.clips, strict=True):
            np.testing.assert_array_equal(remote.read_clip(other), here.read_clip(clip))
    answers.asked.clear()
    remote.verify()  # raises where a shard differs
    assert len(answers.asked) == 2
