"""Which requests the page answers: by the host that they ask for, and by the page that sends them.

A page elsewhere can have its own name point to this machine, so requests for names of elsewhere are refused. It can
also send requests here without reading the answers, so what changes something is refused unless the page of this very
server sends it: by `Origin` and `Sec-Fetch-Site`, which browsers set, and by types of content that no form can send
(another page's script would be asked for permission first, which nothing here gives).
"""

import ipaddress
import socket
from urllib.parse import urlsplit

from werkzeug.wrappers import Request

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
"""Hosts that stand for all addresses of this machine."""
TYPES = frozenset({"application/json", "application/octet-stream"})
"""Of what is sent here."""
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer: nothing is loaded from elsewhere, and no other page shows or reads it."""


class HostCheck:
    """Whether a request asks for the host that is listened on."""

    def __init__(self, host: str) -> None:
        self._host = host.lower()

    def allows(self, asked: str) -> bool:
        """Whether a request's Host header names this server.

        >>> HostCheck("::1").allows("[::1]:8050"), HostCheck("127.0.0.1").allows("evil.example:8050")
        (True, False)
        """
        name = asked.lower()
        name = name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]
        if name in LOOPBACK or name == self._host:
            return True
        if self._host in LOOPBACK:
            return False
        if self._host in EVERYWHERE and name in (own := socket.gethostname().lower(), f"{own}.local", socket.getfqdn()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def own_page_sent(request: Request) -> bool:
    """Whether the page of this server sent a request that changes something, or a program that is no browser."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.host.lower():
        return False
    return request.headers.get("Sec-Fetch-Site", "same-origin") == "same-origin"


def url_of(host: str, port: int) -> str:
    """An address that browsers take.

    >>> url_of("::1", 80), url_of("0.0.0.0", 80)
    ('http://[::1]:80/', 'http://127.0.0.1:80/')
    """
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
