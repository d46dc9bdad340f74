"""A folder as an S3 bucket on loopback that answers slowly: for measuring what reading from an object store costs.

    uv run python benchmarks/slow_s3.py FOLDER 20 50     # ms before each answer, MB/s for all of them together

Prints its port. It knows what s3fs asks for when it lists and reads: ListObjectsV2, HeadObject, and GetObject with a
range. Every request waits for `latency_ms`, and all answers together pass at `megabytes_per_s`.
"""

import re
import sys
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

BUCKET = "stems"
PIECE_BYTES = 64 << 10


class Pace:
    """Lets bytes pass at a rate that all threads share."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s, self._free_at, self._lock = bytes_per_s, 0.0, threading.Lock()

    def wait(self, size: int) -> None:
        """Returns when so many bytes may pass."""
        with self._lock:
            self._free_at = max(self._free_at, time.monotonic()) + size / self._bytes_per_s
            wait_s = self._free_at - time.monotonic()
        if wait_s > 0:
            time.sleep(wait_s)


def server(folder: Path, latency_s: float, bytes_per_s: float) -> ThreadingHTTPServer:
    """A server on a free port of 127.0.0.1 whose only bucket holds the files of a folder."""
    pace = Pace(bytes_per_s)

    class Answers(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def log_message(self, format: str, *args: object) -> None:
            pass

        def _answer(self, body: bool) -> None:
            time.sleep(latency_s)
            url = urlsplit(self.path)
            key = unquote(url.path).strip("/").partition("/")[2]
            if not key:
                self._send(200, _listing(folder, parse_qs(url.query)), {"Content-Type": "application/xml"}, body)
                return
            path = folder / key
            if not path.is_file():
                self._send(404, b"", {}, body)
                return
            size = path.stat().st_size
            told = {"ETag": '"0"', "Last-Modified": formatdate(0, usegmt=True), "Accept-Ranges": "bytes"}
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            first, last = (int(wanted[1]), min(int(wanted[2] or size - 1), size - 1)) if wanted else (0, size - 1)
            with path.open("rb") as file:
                file.seek(first)
                data = file.read(last + 1 - first) if body else bytes(0)
            if wanted:
                told["Content-Range"] = f"bytes {first}-{last}/{size}"
            self._send(206 if wanted else 200, data, told, body, last + 1 - first)

        def _send(self, status: int, data: bytes, told: dict[str, str], body: bool, size: int | None = None) -> None:
            self.send_response(status)
            for name, value in {**told, "Content-Length": str(len(data) if size is None else size)}.items():
                self.send_header(name, value)
            self.end_headers()
            if body:
                for start in range(0, len(data), PIECE_BYTES):
                    piece = data[start : start + PIECE_BYTES]
                    pace.wait(len(piece))
                    self.wfile.write(piece)

    return ThreadingHTTPServer(("127.0.0.1", 0), Answers)


def _listing(folder: Path, query: dict[str, list[str]]) -> bytes:
    prefix = query.get("prefix", [""])[0]
    found = sorted(path for path in folder.iterdir() if path.is_file() and path.name.startswith(prefix))
    entries = "".join(
        f"<Contents><Key>{escape(path.name)}</Key><LastModified>1970-01-01T00:00:00.000Z</LastModified>"
        f'<ETag>"0"</ETag><Size>{path.stat().st_size}</Size><StorageClass>STANDARD</StorageClass></Contents>'
        for path in found
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{BUCKET}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found)}</KeyCount>"
        f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
    ).encode()


if __name__ == "__main__":
    slow = server(Path(sys.argv[1]), float(sys.argv[2]) / 1e3, float(sys.argv[3]) * 1e6)
    print(slow.server_address[1], flush=True)
    slow.serve_forever()
