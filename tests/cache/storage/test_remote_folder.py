"""A folder kept behind s3:// on a real server: what was sent last, whole, whatever became of single objects."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.s3_server import BUCKET, objects, serving

from mixstyle.cache.storage import remote_folder
from mixstyle.cache.storage.remote_folder import RemoteFolder, manifest_name
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.pipeline.core.errors import MixstyleError

pytestmark = pytest.mark.slow
FILES = {"latest.pt": b"weights", "loss.csv": b"step,loss\n", "settings.json": b"{}\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def put(name: str, data: bytes) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/{name}", data)


def sent(name: str, folder: Path) -> RemoteFolder:
    """A folder with FILES, as one machine sends it."""
    kept = RemoteFolder(f"s3://{BUCKET}/{name}", folder)
    kept.fetch()
    for file, data in FILES.items():
        (folder / file).write_bytes(data)
    kept.send()
    return kept


def fetched(name: str, folder: Path) -> dict[str, bytes]:
    """The files as a machine with an empty disk gets them."""
    RemoteFolder(f"s3://{BUCKET}/{name}", folder).fetch()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def object_of(name: str, file: str) -> str:
    stem, _, suffix = file.rpartition(".")
    return next(key for key in objects(name) if key.startswith(f"{stem}.") and key.endswith(f".{suffix}"))


def test_what_is_sent_is_fetched_and_what_is_equal_is_not_sent_again(server: str, tmp_path: Path) -> None:
    kept = sent("plain", tmp_path / "one")
    assert fetched("plain", tmp_path / "two") == FILES
    before = objects("plain")
    kept.send()
    assert objects("plain") == before
    (tmp_path / "one" / "not kept.txt").write_text("stays here")
    (tmp_path / "one" / "loss.csv").unlink()
    kept.send()
    assert fetched("plain", tmp_path / "two") == {name: data for name, data in FILES.items() if name != "loss.csv"}


@pytest.mark.parametrize("harm", ["changed", "cut", "removed"])
def test_equal_bytes_take_the_place_of_a_damaged_object(
    server: str, tmp_path: Path, record_property: Callable[[str, object], None], harm: str
) -> None:
    """By the one who makes the file again, whether `verify --repair` came before or not."""
    ways = ("repaired", "fetched")
    record_property("tried", len(ways))
    for way in ways:
        name = f"{harm}-{way}"
        sent(name, tmp_path / name)
        damaged = f"{name}/{object_of(name, 'latest.pt')}"
        if harm == "removed":
            fsspec.filesystem("s3", skip_instance_cache=True).rm_file(f"{BUCKET}/{damaged}")
        else:
            put(damaged, b"wEights" if harm == "changed" else b"wei")
        kept = RemoteFolder(f"s3://{BUCKET}/{name}", tmp_path / f"{name} again")
        if way == "repaired":
            kept.look()
            with pytest.raises(MixstyleError) as caught:
                kept.check("latest.pt")
            assert caught.value.code == "damaged-file"
            kept.forget("latest.pt")
        left_out: list[str] = []
        kept.fetch(left_out=left_out)
        assert not (kept.folder / "latest.pt").exists()
        assert len(left_out) == (0 if way == "repaired" else 1)
        (kept.folder / "latest.pt").write_bytes(FILES["latest.pt"])
        kept.send()
        assert fetched(name, tmp_path / f"{name} third") == FILES
        kept.check("latest.pt")


def test_files_are_shown_under_their_names_and_taken_away_with_them(server: str, tmp_path: Path) -> None:
    kept = sent("shown", tmp_path / "one")
    kept.show("settings.json", "metrics.json")
    assert objects("shown")["settings.json"] == b"{}\n"
    put("shown/settings.json", b"[]\n")
    kept.show("settings.json")
    assert objects("shown")["settings.json"] == b"{}\n", "of the same length"
    assert fetched("shown", tmp_path / "two") == FILES
    (tmp_path / "one" / "settings.json").unlink()
    kept.send()
    kept.show("settings.json")
    assert "settings.json" not in objects("shown")


def test_one_manifest_before_the_last_is_kept_with_its_files(server: str, tmp_path: Path) -> None:
    kept = sent("many", tmp_path / "one")
    for number in range(4):
        (tmp_path / "one" / "latest.pt").write_bytes(b"%d" % number)
        kept.send()
    names = sorted(objects("many"))
    assert [name for name in names if name.startswith("manifest-")] == [manifest_name(4), manifest_name(5)]
    assert sum(name.startswith("latest.") for name in names) == 2
    put(f"many/{manifest_name(5)}", b"torn")
    left_out: list[str] = []
    reader = RemoteFolder(f"s3://{BUCKET}/many", tmp_path / "two")
    reader.fetch(left_out=left_out)
    assert ((tmp_path / "two" / "latest.pt").read_bytes(), len(left_out)) == (b"2", 1)


def test_a_file_that_is_replaced_within_one_tick_of_the_clock_is_sent(server: str, tmp_path: Path) -> None:
    kept = sent("tick", tmp_path / "one")
    before, other = (tmp_path / "one" / "latest.pt").stat(), tmp_path / "other"
    other.write_bytes(b"WEIGHTS")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.replace(tmp_path / "one" / "latest.pt")
    kept.send()
    assert fetched("tick", tmp_path / "two") == {**FILES, "latest.pt": b"WEIGHTS"}


class Overtaken(RemoteStore):
    """A store to which others send before each download."""

    def __init__(self, url: str, others: Callable[[], None]) -> None:
        super().__init__(url)
        self._others = others

    def download(self, name: str, target: Path) -> None:
        self._others()
        super().download(name, target)


class Sender:
    """One machine that sends `latest.pt` twice when it is asked, as often as `left` says: what it sent is gone then."""

    def __init__(self, kept: RemoteFolder, left: int) -> None:
        self._kept, self._left, self.sent = kept, left, 0

    def __call__(self) -> None:
        for _ in range(2 if self._left else 0):
            self.sent += 1
            (self._kept.folder / "latest.pt").write_bytes(b"weights of step %d" % self.sent)
            (self._kept.folder / "loss.csv").write_bytes(b"step,loss\n%d,1\n" % self.sent)
            self._kept.send()
        self._left -= self._left > 0


def overtaken(name: str, folder: Path, left: int) -> tuple[RemoteFolder, Sender]:
    """A reader's folder, and who sends to it."""
    sender = Sender(sent(name, folder / "sender"), left)
    reader = RemoteFolder(f"s3://{BUCKET}/{name}", folder / "reader")
    reader.store = Overtaken(reader.name, sender)
    return reader, sender


def test_a_reader_that_is_overtaken_gets_what_was_sent_last_and_of_one_moment(server: str, tmp_path: Path) -> None:
    reader, sender = overtaken("overtaken", tmp_path, 7)
    reader.fetch("latest.pt", "loss.csv")
    assert sender.sent == 14
    assert (reader.folder / "latest.pt").read_bytes() == b"weights of step 14"
    assert (reader.folder / "loss.csv").read_bytes() == b"step,loss\n14,1\n"


def test_a_folder_that_changes_all_the_while_is_not_taken_for_damaged(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_folder, "MOST_LOOKS", 3)
    reader, _ = overtaken("changing", tmp_path, 1000)
    for left_out in (None, list[str]()):
        with pytest.raises(MixstyleError) as caught:
            reader.fetch("latest.pt", left_out=left_out)
        assert (caught.value.code, reader.name in caught.value.message) == ("remote", True)
        assert not left_out


def test_damage_is_told_while_others_send(server: str, tmp_path: Path) -> None:
    reader, _ = overtaken("damaged", tmp_path, 1000)
    put(f"damaged/{object_of('damaged', 'settings.json')}", b"[]\n")
    with pytest.raises(MixstyleError) as caught:
        reader.fetch("settings.json")
    assert caught.value.code == "damaged-file"
    left_out: list[str] = []
    reader.fetch("settings.json", left_out=left_out)
    assert len(left_out) == 1
