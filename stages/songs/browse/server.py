"""`mixstyle browse`: a page to look at an index and to listen to it, on this machine alone unless told otherwise.

A map of the songs, and for the one that is clicked its mix and stems to hear, the nearest others, and its descriptors
beside those of another. The page knows songs by their number in the index: no address names a file, so nothing but
clips of indexed songs can be had through it. Requests for other hosts' names are refused (a page elsewhere cannot
reach it by having its own name point here), but addresses are as good as names: a browser that asks for one was given
it by a person.
"""

import ipaddress
import logging
import socket
import threading
from typing import TYPE_CHECKING, Any

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.progress import say
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.audio import Player
from mixstyle.stages.songs.browse.songs import Songs
from mixstyle.stages.songs.embed import embedder_of
from mixstyle.stages.songs.index import cutting_version_of_index, open_index

if TYPE_CHECKING:
    from werkzeug.serving import BaseWSGIServer

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
EVERYWHERE = frozenset({"0.0.0.0", "::", ""})
"""Hosts that stand for all addresses of this machine."""


class Server:
    """The page, served from a thread; a context manager. port 0: any that is free."""

    def __init__(self, settings: Settings, host: str = "127.0.0.1", port: int = 8050) -> None:
        try:
            from werkzeug.serving import make_server

            from mixstyle.stages.songs.browse.page import make_page
        except ImportError as error:
            raise MixstyleError(
                "browse needs dash: install mixstyle with its extra, mixstyle[browse]", code="no-package"
            ) from error
        embedder = embedder_of(settings, cutting_version=cutting_version_of_index(settings))
        index, root = open_index(settings, embedder)
        self.songs = Songs(index)
        self.player = Player(index, root, embedder)
        app = make_page(self.songs, self.player, root)
        host = host.strip("[]")
        app.server.before_request(HostCheck(host))
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        try:
            self._server: BaseWSGIServer = make_server(host, port, app.server, threaded=True)
        except (OSError, SystemExit) as error:  # werkzeug exits where the port is taken
            raise MixstyleError(
                f"--host {host} --port {port}: cannot be listened on; name another port", code="in-use"
            ) from error
        self.url = url_of(host, self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._embedder = embedder

    @property
    def port(self) -> int:
        return self._server.server_port

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.player.close()
        self._embedder.close()


class HostCheck:
    """Refuses requests that ask for another host than the one that is listened on: called before each by Flask."""

    def __init__(self, host: str) -> None:
        self._host = host.lower()

    def __call__(self) -> None:
        from flask import abort, request

        if not self.allows(request.host):
            abort(400)

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


def url_of(host: str, port: int) -> str:
    """An address that browsers take.

    >>> url_of("::1", 80), url_of("0.0.0.0", 80)
    ('http://[::1]:80/', 'http://127.0.0.1:80/')
    """
    host = "127.0.0.1" if host in EVERYWHERE else host
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def browse(settings: Settings, host: str, port: int) -> None:
    """Serves the page until Ctrl-C. Raises MixstyleError where there is no index, or the port is taken."""
    with Server(settings, host, port) as server:
        say(f"browse: {len(server.songs.names)} songs at {server.url} (Ctrl-C ends it)")
        if host.strip("[]") not in LOOPBACK:
            everywhere = host.strip("[]") in EVERYWHERE
            also = f", from other machines at {url_of(socket.gethostname(), server.port)}" if everywhere else ""
            say(f"browse: warning: everyone who reaches this machine can hear these songs{also}")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("browse: ended")
