"""Connections to a store are closed when nobody needs them: also on a busy machine, and not by forked processes."""

import gc
import os
import time
import weakref
from pathlib import Path

import fsspec.asyn
import pytest
from helpers.file_server import Served, serve
from helpers.s3_server import BUCKET, serving

from mixstyle.cache.storage.remote_store import RemoteStore

BUSY_S = 4.0
"""fsspec itself waits for a second."""


@pytest.mark.slow
def test_they_are_closed_also_where_the_thread_that_closes_them_gets_its_turn_late(tmp_path: Path) -> None:
    with serving(tmp_path / "s3"):
        store = RemoteStore(f"s3://{BUCKET}/songs")
        store.replace("a", b"a")
        http = store.fs._s3creator._client._endpoint.http_session
        (connections,) = http._sessions.values()
        assert not connections.closed
        fsspec.asyn.get_loop().call_soon_threadsafe(time.sleep, BUSY_S)
        del store
        gc.collect()
        assert connections.closed


def test_a_forked_process_leaves_them_to_the_one_that_opened_them() -> None:
    with serve(Served(b"a song")) as web:
        store = RemoteStore(web.url.rpartition("/")[0])
        name = web.url.rpartition("/")[2]
        assert store.read(name) == b"a song"
        kept = weakref.ref(store.fs)
        child = os.fork()
        if not child:
            del store
            gc.collect()
            os._exit(0 if kept() is not None else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert store.read(name) == b"a song"
        del store
        gc.collect()
        assert kept() is None, "the process that opened it holds it no longer than it is needed"
