"""`mixstyle browse`: a page to look at an index and to listen to it, on this machine alone unless told otherwise.

A list and a map of the songs; for the one that is chosen a player, the nearest others with reasons, and its descriptors
beside those of another; your own songs, dropped into the page; and matches, to hear. What is dropped and made is
in a temporary folder that is removed at the end. See `guard` for who may ask for what.
"""

import logging
import shutil
import signal
import socket
import tempfile
import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

from werkzeug.serving import WSGIRequestHandler, make_server

from mixstyle.cache.storage.provenance import SETTINGS
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted, printable
from mixstyle.stages.common.progress import remark, say
from mixstyle.stages.presentation.pages import page_paths
from mixstyle.stages.separate.rule_versions import rules_of_index
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.songs.browse.app import About, App, Parts, day_of
from mixstyle.stages.songs.browse.dropped import Dropped
from mixstyle.stages.songs.browse.guard import EVERYWHERE, LOOPBACK, HostCheck, url_of
from mixstyle.stages.songs.browse.jobs import Jobs
from mixstyle.stages.songs.browse.listening import Listening
from mixstyle.stages.songs.browse.matching import Matching
from mixstyle.stages.songs.browse.songs import Library, Songs, Track
from mixstyle.stages.songs.embed.stage import embedder_of
from mixstyle.stages.songs.index.readable_index import readable_index
from mixstyle.stages.songs.index.stage import check_index, open_index

WHY_NOT = (
    "this server is open to other machines, so it takes no songs and no matches; start it with --take-songs to allow it"
)


def check_host(host: str) -> None:
    """Raises MixstyleError ("bad-option") where no address of this machine has that name."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET  # as werkzeug chooses it
    try:
        address = socket.getaddrinfo(host, 0, family, socket.SOCK_STREAM)[0][4]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind(address)
    except (OSError, UnicodeError) as error:
        raise MixstyleError(
            f"--host {host}: is not an address of this machine; use 127.0.0.1, or 0.0.0.0 for other machines too",
            code="bad-option",
        ) from error


class Handler(WSGIRequestHandler):
    """Keeps connections: a player asks for a piece of every part at once."""

    protocol_version = "HTTP/1.1"


class Server:
    """The page, served from a thread; a context manager. port 0: any that is free. take_songs: also where other
    machines can reach it. Raises MixstyleError where there is no index, the host is no address of this machine, or the
    port is taken."""

    def __init__(self, settings: Settings, host: str = "127.0.0.1", port: int = 0, take_songs: bool = False) -> None:
        host = host.strip("[]")
        check_host(host)
        with readable_index(settings) as here:
            check_index(here)  # before the networks are loaded
            self._embedder = embedder_of(here, rules=rules_of_index(here.embed.index_dir))
            index, root = open_index(here, self._embedder)
        self.songs = Songs(index, root)
        self.folder = Path(tempfile.mkdtemp(prefix="mixstyle-browse-"))
        self._busy = busy = threading.Lock()
        self._jobs = Jobs(busy)
        self.listening = Listening(self._embedder, self.folder, busy)
        self.library = Library(self.songs, self._forget)
        self._matching = Matching(self.library, self._embedder, self.folder)
        dropped = Dropped(self.library, self._embedder, self.folder, settings.embed.dropped_mb)
        parts = Parts(self.library, self.listening, dropped, self._matching, self._jobs)
        day = day_of(index.folder / SETTINGS, *index.folder.glob("songs-*.parquet"))
        why_not = "" if host in LOOPBACK or take_songs else WHY_NOT
        about = About(version("mixstyle"), printable(root.name), day, why_not, pages_of(settings))
        self.app = App(about, parts, HostCheck(host))
        logging.getLogger("werkzeug").setLevel(logging.WARNING)
        try:
            self._server = make_server(host, port, self.app, threaded=True, request_handler=Handler)
        except (OSError, SystemExit) as error:  # werkzeug exits where the port is taken
            self._close()
            raise MixstyleError(
                f"--host {host} --port {port}: cannot be used; choose another port", code="in-use"
            ) from error
        self.url = url_of(host, self._server.server_port)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def port(self) -> int:
        return self._server.server_port

    @property
    def works(self) -> bool:
        """Whether a job runs."""
        return self._busy.locked()

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._close()

    def _close(self) -> None:
        self._jobs.close()
        self.listening.close()
        self._embedder.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _forget(self, track: Track) -> None:
        """Removes the files of a track that was added."""
        self.listening.forget(track.key)
        self._matching.forget(track.key)
        if track.path.is_relative_to(self.folder):
            track.path.unlink(missing_ok=True)


def pages_of(settings: Settings) -> dict[str, Path]:
    """The pages of other commands that there are, by name."""
    return {name: path.resolve() for name, path in page_paths(settings).items() if path.is_file()}


def browse(settings: Settings, host: str, port: int, take_songs: bool = False) -> None:
    """Serves the page until Ctrl-C. Raises MixstyleError as `Server` does."""
    with Server(settings, host, port, take_songs) as server:
        try:
            # so that files are removed; by no SIGINT, which a script's background jobs ignore. Before the line that
            # says that it serves: who waits for the line may end it at once
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            say(f"browse: {counted(len(server.songs.names), 'song')} at {server.url} (Ctrl-C ends it)")
            if host.strip("[]") not in LOOPBACK:
                everywhere = host.strip("[]") in EVERYWHERE
                also = f", from other machines at {url_of(socket.gethostname(), server.port)}" if everywhere else ""
                may = "hear these songs, and send songs here" if take_songs else "hear these songs"
                remark(f"browse: warning: everyone who reaches this machine can {may}{also}")
            threading.Event().wait()
        except KeyboardInterrupt:
            remark("browse: stops the job that runs, and ends" if server.works else "browse: ended")
