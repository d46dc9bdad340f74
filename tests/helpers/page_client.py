"""Requests to the application of `browse` without a network, as a browser would send them."""

import time
from typing import Any

from werkzeug.test import Client, TestResponse

from mixstyle.stages.songs.browse.server import Server

MOST_S = 300.0  # on a machine that has other work


class PageClient:
    """host: what the Host header says, if not the server's own."""

    def __init__(self, server: Server, host: str = "") -> None:
        self.base = f"http://{host or '127.0.0.1'}:{server.port}"
        self._client = Client(server.app)

    def get(self, path: str, **headers: str) -> TestResponse:
        return self._client.get(path, base_url=self.base, headers=headers)

    def send(self, path: str, data: bytes, kind: str = "application/octet-stream", **headers: str) -> TestResponse:
        own = {"Origin": self.base, "Sec-Fetch-Site": "same-origin"} | {
            k.replace("_", "-"): v for k, v in headers.items()
        }
        return self._client.post(path, base_url=self.base, data=data, content_type=kind, headers=own)

    def delete(self, path: str, **headers: str) -> TestResponse:
        return self._client.delete(path, base_url=self.base, headers={"Origin": self.base, **headers})

    def json(self, path: str) -> Any:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json

    def finished(self, answer: TestResponse) -> dict[str, Any]:
        """The last state of the job that an answer tells of."""
        assert answer.status_code == 202, answer.text
        assert answer.json is not None
        job, until = answer.json, time.monotonic() + MOST_S
        while job["state"] not in ("done", "failed", "stopped"):
            assert time.monotonic() < until, f"it does not end: {job}"
            time.sleep(0.02)
            job = self.json(f"/api/jobs/{job['id']}")
        return job
