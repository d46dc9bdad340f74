"""Shards kept behind s3://, on a real server on loopback: also where requests go wrong and workers are killed."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.faulty_proxy import FAULTS, Faults, faulty
from helpers.s3_server import BUCKET, environment, objects, serving
from helpers.store_workers import check_objects, check_read, in_process, run, work, write_local

from mixstyle.cache.stem_store.place import kept_shard, stems_place
from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.shards import hashed_name
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.place import RemotePlace
from mixstyle.cache.storage.provenance import SETTINGS


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> StemCache:
    return write_local(tmp_path_factory.mktemp("local") / "stems")


@pytest.mark.slow
def test_who_comes_second_with_a_shard_or_with_settings_loses_harmlessly(
    server: str, tmp_path: Path, local: StemCache
) -> None:
    url = f"s3://{BUCKET}/second"
    work(url, tmp_path / "first")
    place = stems_place(Path(url), tmp_path / "second")
    assert isinstance(place, RemotePlace)
    place.refresh()
    before = objects("second")
    (tmp_path / "other").mkdir()
    for name, data in {"large": b"other bytes", "stems-000000.json": b'{"fingerprint": "same"}'}.items():
        (tmp_path / "other" / name).write_bytes(data)
    asked: list[bytes] = []
    place.publish(
        tmp_path / "other" / "large",
        "stems-000000.0123456789abcdef.tar",
        tmp_path / "other" / "stems-000000.json",
        lambda there: not asked.append(there),
    )
    assert asked == [before["stems-000000.json"]]
    after = objects("second")
    assert after.pop("stems-000000.0123456789abcdef.tar") == b"other bytes"
    assert after == before
    write_json(place.folder / SETTINGS, {"other": 1})
    assert not place.keep_first(SETTINGS)
    assert (place.folder / SETTINGS).read_bytes() == before[SETTINGS]


@pytest.mark.slow
def test_what_is_marked_or_taken_away_on_one_machine_is_so_on_another(
    server: str, tmp_path: Path, local: StemCache
) -> None:
    url = f"s3://{BUCKET}/marked"
    work(url, tmp_path / "worker")
    one, other = (stems_place(Path(url), tmp_path / name) for name in ("one", "other"))
    for place in (one, other):
        place.refresh()
    again = ".stems-000001.again"
    one.mark(again)
    one.take_away("stems-000001.json")
    assert (kept_shard(one, 1), kept_shard(other, 1) is None) == (None, False)
    other.refresh()
    assert ((other.folder / again).exists(), kept_shard(other, 1)) == (True, None)
    assert list(RemoteStemCache(url, tmp_path / "reader", 1e9).unnamed) == [hashed_name(1, local.shards[1].sha256)]
    assert work(url, tmp_path / "worker") == 1
    other.take_away(again)
    one.refresh()
    assert ((one.folder / again).exists(), kept_shard(one, 1) is None) == (False, False)
    assert not RemoteStemCache(url, tmp_path / "reader", 1e9).unnamed
    assert check_objects(objects("marked"), local) == 0


@pytest.mark.slow
def test_what_a_killed_process_was_writing_is_removed_by_the_next_on_its_machine(server: str, tmp_path: Path) -> None:
    place = stems_place(Path(f"s3://{BUCKET}/swept"), tmp_path)
    pid = in_process(lambda: None)
    os.waitpid(pid, 0)
    host = os.uname().nodename
    folders = [place.folder / f".making-{host}-{number}-x" for number in (pid, os.getpid())]
    for folder in folders:
        folder.mkdir(parents=True)
    place.refresh()
    assert [folder.exists() for folder in folders] == [False, True]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_nothing_torn_is_ever_read_and_the_end_is_what_a_folder_holds(
    server: str, tmp_path: Path, local: StemCache, record_property: Callable[[str, object], None], seed: int
) -> None:
    faults, url = Faults(seed, 0.2), f"s3://{BUCKET}/faults-{seed}"
    with faulty(server, faults) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in environment(proxy).items():
            patch.setenv(name, value)
        run(url, tmp_path, seed)
        check_read(url, tmp_path / "reader", local)
    met = sum(faults.met[name] for name in FAULTS)
    record_property("tried", met)
    assert met > 5
    check_objects(objects(f"faults-{seed}"), local)
    assert check_read(url, tmp_path / "after", local) == 12


@pytest.mark.slow
def test_each_fault_alone_leaves_the_work_whole(
    server: str, tmp_path: Path, local: StemCache, record_property: Callable[[str, object], None]
) -> None:
    tried = 0
    for fault in FAULTS:
        faults, name = Faults(0, 0.3, [fault]), f"fault-{FAULTS.index(fault)}"
        with faulty(server, faults) as proxy, pytest.MonkeyPatch.context() as patch:
            for key, value in environment(proxy).items():
                patch.setenv(key, value)
            work(f"s3://{BUCKET}/{name}", tmp_path / name)
        assert faults.met[fault], fault
        assert check_objects(objects(name), local) == 0
        tried += faults.met[fault]
    record_property("tried", tried)


def test_workers_end_as_they_are_told(tmp_path: Path) -> None:
    """The harness itself: a worker that fails is not counted as one that gave up."""

    def failing() -> None:
        raise ZeroDivisionError

    assert os.waitstatus_to_exitcode(os.waitpid(in_process(failing), 0)[1]) == 2
