"""A folder kept behind s3:// on a real server: what was sent last, whole, whatever became of single objects."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from helpers.s3_server import BUCKET, objects, reached, served
from helpers.store_workers import WAIT_S

from mixstyle.cache.storage import remote_store
from mixstyle.cache.storage.kept_folder import RemoteFolder, manifest_name
from mixstyle.pipeline.core.errors import MixstyleError

pytestmark = pytest.mark.slow
FILES = {"latest.pt": b"weights", "loss.csv": b"step,loss\n", "settings.json": b"{}\n"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(tmp_path_factory.mktemp("s3")) as address, reached(address) as patch:
        patch.setattr(remote_store, "WAIT_S", WAIT_S)
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
def test_equal_bytes_take_the_place_of_a_damaged_object(server: str, tmp_path: Path, harm: str) -> None:
    """By the one who makes the file again, whether `verify --repair` came before or not."""
    for way in ("repaired", "fetched"):
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
