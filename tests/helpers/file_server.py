"""A server on loopback that hands out one file as servers do: with ranges, redirects, cut connections, and slowly."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Served:
    """What the server does. cuts: after how many bytes the next answers end. statuses: of the next answers, instead of
    the file. tag: the file's ETag. ranges, sized: whether it knows ranges, and tells sizes. block_s: wait between
    blocks of 4 kB. redirects: path -> where it leads. asked: the headers of each request, with its path under `path`.
    """

    data: bytes
    tag: str = '"one"'
    ranges: bool = True
    sized: bool = True
    block_s: float = 0.0
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""


@contextlib.contextmanager
def serve(served: Served, **of_the_server: Any) -> Iterator[Served]:
    """Serves until the end of the block, on a port that is free; served.url is where the file is."""

    class Handler(_Handler):
        what = served

    server = _Server(("127.0.0.1", 0), Handler)
    if context := of_the_server.get("context"):
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if context else "http"
    served.url = f"{scheme}://127.0.0.1:{server.server_port}/a%20folder/model.safetensors"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Those who hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    what: Served

    def do_GET(self) -> None:
        what = self.what
        what.asked.append({**dict(self.headers.items()), "path": self.path})
        if self.path in what.redirects:
            self.send_response(302)
            self.send_header("Location", what.redirects[self.path])
            self.end_headers()
            return
        if what.statuses:
            self.send_error(what.statuses.pop(0))
            return
        start, end = self._range()
        if start > len(what.data):
            self.send_error(416)
            return
        part = bool(start) or end < len(what.data)
        self.send_response(206 if part else 200)
        if what.sized:
            self.send_header("Content-Length", str(end - start))
        if part:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(what.data)}")
        if what.tag:
            self.send_header("ETag", what.tag)
        self.end_headers()
        stop = min(start + what.cuts.pop(0), end) if what.cuts else end
        for place in range(start, stop, 4096):
            self.wfile.write(what.data[place : min(place + 4096, stop)])
            time.sleep(what.block_s)

    def _range(self) -> tuple[int, int]:
        """Where the bytes that are asked for start, and where they end."""
        size = len(self.what.data)
        if not self.what.ranges or self.headers.get("If-Range", self.what.tag) != self.what.tag:
            return 0, size
        first, _, last = self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")
        return int(first), min(int(last) + 1, size) if last else size

    def log_message(self, format: str, *args: Any) -> None:
        pass
