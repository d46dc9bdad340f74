"""Speed of what is behind a URL: on a real S3 server, on a web server, and on what does not answer."""

import socket
import time
from collections.abc import Iterator

import pytest
from helpers.file_server import Served, serve
from helpers.s3_server import BUCKET, objects, reached, refusing, serving

from mixstyle.cache.storage import store_trial
from mixstyle.cache.storage.remote_store import RemoteStore
from mixstyle.cache.storage.store_trial import store_speed
from mixstyle.pipeline.core.errors import MixstyleError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("s3")) as address:
        yield address


def test_speeds_are_bytes_over_the_time_that_it_took_and_nothing_is_left(server: str) -> None:
    RemoteStore(f"s3://{BUCKET}/stems").replace("kept", b"kept")
    begin = time.perf_counter()
    found = store_speed(f"s3://{BUCKET}/stems", write=True)
    took_s = time.perf_counter() - begin
    assert found.bytes in store_trial.SIZES
    assert found.write_mb_per_s is not None
    assert found.read_mb_per_s is not None
    size_mb = found.bytes / 1e6
    assert size_mb / found.write_mb_per_s + size_mb / found.read_mb_per_s + found.round_trip_ms / 1e3 < took_s
    assert min(found.write_mb_per_s, found.read_mb_per_s) > size_mb / took_s
    assert found.round_trip_ms > 0
    assert found.left_over == ""
    assert objects("stems") == {"kept": b"kept"}


def test_a_store_that_takes_long_is_measured_with_less(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_trial, "ENOUGH_S", 0.0)
    assert store_speed(f"s3://{BUCKET}/slow", write=True).bytes == store_trial.SIZES[0]


def test_what_may_only_be_read_is_read(server: str) -> None:
    url = f"s3://{BUCKET}/only-read"
    for name, size in (("small", 10), ("large", 100_000)):
        RemoteStore(url).replace(name, bytes(size))
    with reached(server, only_read=True):
        found = store_speed(url, write=True)
        assert (found.bytes, found.write_mb_per_s, found.left_over) == (100_000, None, "")
        assert found.read_mb_per_s
        nothing = store_speed(f"s3://{BUCKET}/nothing-there", write=False)
        assert (nothing.bytes, nothing.read_mb_per_s) == (0, None)
        assert nothing.round_trip_ms > 0
    assert set(objects("only-read")) == {"small", "large"}


def test_an_object_that_cannot_be_removed_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: RemoteStore, names: list[str]) -> None:
        raise MixstyleError(f"{names}: may not be removed", code="remote")

    with monkeypatch.context() as patch:
        patch.setattr(RemoteStore, "remove", refuse)
        left_over = store_speed(f"s3://{BUCKET}/kept", write=True).left_over
    assert left_over == f"s3://{BUCKET}/kept/{next(iter(objects('kept')))}"


def test_a_file_on_a_web_server_is_read() -> None:
    with serve(Served(bytes(3_000_000))) as web:
        found = store_speed(web.url, write=False)
    assert (found.bytes, found.write_mb_per_s) == (3_000_000, None)
    assert found.read_mb_per_s


def test_what_does_not_answer_is_an_error_within_the_limit(server: str) -> None:
    with refusing() as down, reached(down), pytest.raises(MixstyleError) as caught:
        store_speed(f"s3://{BUCKET}/stems", write=True)
    assert caught.value.code == "remote"
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        with reached(f"http://127.0.0.1:{silent.getsockname()[1]}"), pytest.raises(MixstyleError) as caught:
            store_speed(f"s3://{BUCKET}/stems", write=True, limit_s=0.5)
        assert time.monotonic() - begin < 10
    assert (caught.value.code, f"s3://{BUCKET}/stems/.mixstyle-doctor-" in caught.value.message) == ("remote", True)
