"""Whether a Ray cluster answers at the address of --ray, before the work begins."""

import socket
import sys
import time

import pytest
from helpers.ports import free_ports

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster.address import check_address
from mixstyle.stages.cluster.ray_pool import RayOptions, cluster


def _code(address: str) -> str:
    with pytest.raises(MixstyleError) as caught:
        check_address(address)
    return caught.value.code


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "[::1]:{}", "no.such.host.invalid:{}"])
def test_nobody_listens(form: str) -> None:
    pytest.importorskip("ray")
    began = time.monotonic()
    address = form.format(free_ports(1)[0])
    assert _code(address) == "not-found"
    with pytest.raises(MixstyleError) as caught, cluster(RayOptions(address)):
        pass
    assert (caught.value.code, address in caught.value.message) == ("not-found", True)
    assert time.monotonic() - began < 25  # Ray itself would try for minutes


@pytest.mark.parametrize(
    "address", ["", "no address at all", "127.0.0.1", "host:", ":6379", "host:0", "host:65536", "host:x", "host:٣"]
)
def test_what_is_no_address(address: str) -> None:
    pytest.importorskip("ray")
    assert _code(address) == "bad-option"


def test_auto_is_what_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{free_ports(1)[0]}")
    assert _code("auto") == "not-found"
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1")
    assert _code("auto") == "bad-option"


def test_who_listens_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for text in (address, f"ray://{address}", "local"):
            check_address(text)
        monkeypatch.setenv("RAY_ADDRESS", address)
        check_address("auto")


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for address in ("local", "auto", "127.0.0.1:6379"):
        assert _code(address) == "no-package"


@pytest.mark.parametrize("error", [Exception, RuntimeError, ValueError, ConnectionError, OSError])
def test_what_ray_raises_where_it_does_not_start(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    ray = pytest.importorskip("ray")

    def fails(**_: object) -> None:
        raise error("the current node timed out during startup")

    monkeypatch.setattr(ray, "init", fails)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for address, helps in (("local", "again"), (f"127.0.0.1:{server.getsockname()[1]}", "RAY_AUTH_MODE=token")):
            with pytest.raises(MixstyleError) as caught, cluster(RayOptions(address)):
                pass
            message = caught.value.message
            assert (caught.value.code, "timed out" in message, helps in message) == ("not-found", True, True)
