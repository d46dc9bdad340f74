"""A head is asked by connecting to it: here it is a socket of this process."""

import socket
import time

import pytest

from mixstyle.stages.cluster.head import Head


def test_silence_is_counted_from_the_last_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        head = Head(f"127.0.0.1:{port}")
        time.sleep(0.2)
        assert head.silent_s() == 0.0
    time.sleep(0.2)
    first = head.silent_s()
    time.sleep(0.2)
    assert 0.2 <= first < first + 0.2 <= head.silent_s()
    with socket.create_server(("127.0.0.1", port)):
        assert head.silent_s() == 0.0  # it came back


def test_a_head_that_is_not_known_is_not_looked_at() -> None:
    head = Head("")
    time.sleep(0.05)
    assert head.silent_s() == 0.0


def test_addresses_of_version_6_are_taken() -> None:
    try:
        made = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError as error:
        pytest.skip(f"no addresses of version 6 here: {error}")
    with made as there:
        assert Head(f"[::1]:{there.getsockname()[1]}").silent_s() == 0.0
