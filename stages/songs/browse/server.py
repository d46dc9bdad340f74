"""`mixstyle browse`: a page to look at an index and to listen to it, on this machine alone unless told otherwise.

A map of the songs, and for the one that is clicked its mix and stems to hear, the nearest others, and its descriptors
beside those of another. The page knows songs by their number in the index: no address names a file, so nothing but
clips of indexed songs can be had through it. Requests for other hosts' names are refused (a page elsewhere cannot
reach it by having its own name point here).
"""

import logging
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

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


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
        app.server.config["TRUSTED_HOSTS"] = [*LOOPBACK, host]
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        try:
            self._server: BaseWSGIServer = make_server(host, port, app.server, threaded=True)
        except (OSError, SystemExit) as error:  # werkzeug exits where the port is taken
            raise MixstyleError(
                f"--host {host} --port {port}: cannot be listened on; name another port", code="in-use"
            ) from error
        self.url = f"http://{host}:{self._server.server_port}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._embedder = embedder

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.player.close()
        self._embedder.close()


def browse(settings: Settings, host: str, port: int) -> None:
    """Serves the page until Ctrl-C. Raises MixstyleError where there is no index, or the port is taken."""
    with Server(settings, host, port) as server:
        say(f"browse: {len(server.songs.names)} songs at {server.url} (Ctrl-C ends it)")
        if host not in ("127.0.0.1", "localhost", "::1"):
            say(f"browse: warning: everyone who reaches {host} can hear these songs")
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            say("browse: ended")
