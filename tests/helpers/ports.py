"""Ports of loopback for servers that tests start."""

import random
import socket
from contextlib import ExitStack, suppress

PORTS = (10_000, 32_000)
"""Linux gives those from 32768 on to whoever connects."""


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, below those that the system gives to whoever connects: none of
    these takes one before the server does. Drawn at random, so that servers that start at one moment rarely meet."""
    found: dict[int, socket.socket] = {}
    with ExitStack() as taken:
        while len(found) < count:
            port, one = random.SystemRandom().randrange(*PORTS), taken.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("127.0.0.1", port))
                found[port] = one
    return list(found)
