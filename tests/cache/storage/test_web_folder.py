"""A folder that a web server shows as a page of links: its files are listed with their sizes, and read by ranges."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from mixstyle.cache.storage.remote_store import RemoteStore, Stored

FILES = {"settings.json": b"{}\n", "stems-000000.tar": bytes(range(256)) * 40, "empty.txt": b""}
PAGE = "".join(f'<a href="{name}">{name}</a>' for name in ("../", "below/", "https://elsewhere.example/a.tar", *FILES))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer(True)

    def do_HEAD(self) -> None:
        self._answer(False)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        name = self.path.removeprefix("/stems").strip("/")
        data = PAGE.encode() if not name else FILES.get(name)
        if data is None:
            self.send_error(404)
            return
        asked, whole = self.headers.get("Range"), len(data)
        self.send_response(206 if asked else 200)
        self.send_header("Content-Type", "text/html" if not name else "application/octet-stream")
        if asked:
            first, last = (int(place) for place in asked.removeprefix("bytes=").split("-"))
            data = data[first : last + 1]
            self.send_header("Content-Range", f"bytes {first}-{first + len(data) - 1}/{whole}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stems"
    server.shutdown()
    server.server_close()
    thread.join()


def test_files_of_a_web_folder_are_listed_with_their_sizes(url: str) -> None:
    listed = RemoteStore(url).listed(deep=False)
    assert {name: stored.size for name, stored in listed.items()} == {name: len(data) for name, data in FILES.items()}


def test_files_of_a_web_folder_are_read_by_ranges_and_whole(url: str) -> None:
    store, tar = RemoteStore(url), FILES["stems-000000.tar"]
    assert store.read("stems-000000.tar", 300, 5_000) == tar[300:5_000]
    assert store.read("stems-000000.tar") == tar
    assert isinstance(store.stored("empty.txt"), Stored)
    assert store.stored("nothing.txt") is None
