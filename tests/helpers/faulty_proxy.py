"""A proxy before an HTTP server on loopback that does what networks and busy stores do: by a seed, and counted.

Each request meets a fault with a probability, drawn from `FAULTS`:

- `no request`: the connection is reset before the server hears of it. `torn request`: the server gets half of the body.
- `no answer`: the server does it, and the connection is reset. `busy`: 503, and nothing is done; `busy but done`: 503
  although it was done. `twice`: the server gets the request twice; the second answer is given.
- `torn answer`: half of the body, then a reset. `short answer`: half of the body, and headers that say so.
- `slow answer`: the body in small pieces, with pauses.
"""

import contextlib
import http.client
import os
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    *("no request", "torn request", "no answer", "busy", "busy but done", "twice", "torn answer", "short answer"),
    "slow answer",
)
PAUSE_S = 0.01
BUSY = b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>"


class Faults:
    """Draws faults. share: of requests that meet one. kinds: which. met: how many of each there were."""

    def __init__(self, seed: int, share: float, kinds: Sequence[str] = FAULTS) -> None:
        self.share, self.kinds = share, kinds
        self.met: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()

    def draw(self) -> str:
        """The fault of the next request, empty for none."""
        with self._lock:
            fault = self._random.choice(self.kinds) if self._random.random() < self.share else ""
            self.met[fault] += 1
            return fault


@contextmanager
def faulty(server: str, faults: Faults) -> Iterator[str]:
    """Runs the proxy before `server` until the end of the block; gives its own address."""

    class Handler(_Handler):
        target = urlsplit(server).netloc
        drawn = faults

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        proxy.daemon_threads = True
        proxy.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that are killed
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{proxy.server_address[1]}"
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    target = ""
    drawn: Faults

    def _any(self) -> None:
        body, fault = self._body(), self.drawn.draw()
        if fault == "no request":
            self._reset()
            return
        if fault == "busy":
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
            return
        if fault == "torn request" and body:
            self._tear(body)
            self._reset()
            return
        status, headers, answer = self._asked(body)
        if fault == "twice":
            status, headers, answer = self._asked(body)
        if fault in ("no answer", "torn request"):
            self._reset()
        elif fault == "busy but done":
            self._answer(503, [("Content-Type", "application/xml")], BUSY)
        elif fault == "torn answer":
            self._answer(status, headers, answer, upto=len(answer) // 2)
            self._reset()
        elif fault == "short answer":
            self._answer(status, headers, answer[: len(answer) // 2])
        else:
            self._answer(status, headers, answer, slow=fault == "slow answer")

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 (the names that http.server calls)

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _asked(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target, timeout=60)
        try:
            self._start(connection, len(body))
            connection.send(body)
            response = connection.getresponse()
            return response.status, response.getheaders(), response.read()
        finally:
            connection.close()

    def _tear(self, body: bytes) -> None:
        """Gives the server half of the body, and hangs up."""
        connection = http.client.HTTPConnection(self.target, timeout=60)
        with contextlib.suppress(OSError):
            self._start(connection, len(body))
            connection.send(body[: len(body) // 2])
        connection.close()

    def _start(self, connection: http.client.HTTPConnection, length: int) -> None:
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "expect"):
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(length))
        connection.endheaders()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], body: bytes, upto: int | None = None, slow: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if self.command == "HEAD" and name.lower() == "content-length":
                length = value
            elif name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        if status != 204:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body[:upto]
        step = max(1, len(sent) // 4) if slow else max(1, len(sent))
        for start in range(0, len(sent), step):
            self.wfile.write(sent[start : start + step])
            if slow:
                self.wfile.flush()
                time.sleep(PAUSE_S)

    def _reset(self) -> None:
        """Hangs up with a reset in place of an end."""
        with contextlib.suppress(OSError):
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""
