"""Whether the head of a Ray cluster answers: its control store (GCS), which every driver and every machine needs.

Without an answer Ray waits for a minute, in calls that do not return meanwhile, and then ends the process by itself
with a line of its own. Looked at from outside, the driver can tell what happened and how to go on.
"""

import socket
import time

CONNECT_S = 2.0


class Head:
    """The control store at an address."""

    def __init__(self, address: str) -> None:
        """address: `HOST:PORT`, IPv6 in brackets; empty: not known, and never looked at."""
        host, _, port = address.rpartition(":")
        self._address = (host.strip("[]"), int(port)) if port.isdigit() else None
        self._answered = time.monotonic()

    def silent_s(self) -> float:
        """Seconds since it answered last; 0 where it does so now."""
        if self._address is None or self._takes_connections(self._address):
            self._answered = time.monotonic()
            return 0.0
        return time.monotonic() - self._answered

    @staticmethod
    def _takes_connections(address: tuple[str, int]) -> bool:
        try:
            socket.create_connection(address, CONNECT_S).close()
        except OSError:
            return False
        return True
