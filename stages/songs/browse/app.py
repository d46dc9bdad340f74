"""The page's server as a WSGI application: its own files, what is known of songs, their audio, and jobs.

Songs are asked for by key (their number in the index, or what they were given when they were added), parts and files by
names that are looked up: no address leads to a path, so only songs of the index and of this page can be reached.
"""

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import Forbidden, HTTPException, LengthRequired
from werkzeug.routing import Map, Rule
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import printable
from mixstyle.stages.presentation.html import as_served
from mixstyle.stages.songs.browse import views
from mixstyle.stages.songs.browse.assets import asset
from mixstyle.stages.songs.browse.dropped import SUFFIXES, Dropped, OtherTypeError, TooLargeError
from mixstyle.stages.songs.browse.guard import HEADERS, TYPES, HostCheck, own_page_sent
from mixstyle.stages.songs.browse.jobs import Jobs
from mixstyle.stages.songs.browse.listening import Listening
from mixstyle.stages.songs.browse.matching import Asked, Matching
from mixstyle.stages.songs.browse.songs import Library

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MOST_JSON_BYTES = 10_000
ADDRESSES = {
    "/": "page",
    "/assets/<name>": "assets",
    "/pages/<name>": "pages",
    "/api/about": "about",
    "/api/songs": "songs",
    "/api/map": "map",
    "/api/songs/<key>": "song",
    "/api/songs/<key>/beside/<other>": "pair",
    "/api/songs/<key>/audio": "opened",
    "/api/songs/<key>/stems/<int:clip>": "stems",
    "/api/jobs/<name>": "job",
    "/api/matches/<key>": "matched",
    "/audio/<key>/<path:part>": "audio",
    "/matches/<key>/<name>": "match_file",
}
CHANGES = {
    ("POST", "/api/dropped"): "drop",
    ("POST", "/api/matches"): "match",
    ("DELETE", "/api/songs/<key>"): "forget",
    ("DELETE", "/api/jobs/<name>"): "stop",
}
"""What changes something: the page of this server alone may ask for it."""


@dataclass(frozen=True)
class About:
    """What the page says of itself. why_not: why nothing may be dropped or matched here; empty where it may. pages: of
    other commands, by name."""

    version: str
    folder: str
    date: str
    why_not: str = ""
    pages: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Parts:
    """What the application works with."""

    library: Library
    listening: Listening
    dropped: Dropped
    matching: Matching
    jobs: Jobs


class App:
    """Answers requests; any number of threads may ask."""

    def __init__(self, about: About, parts: Parts, check: HostCheck) -> None:
        self._about, self._parts, self._check = about, parts, check
        self._made: dict[str, bytes] = {}
        self._lock = threading.Lock()
        rules = [Rule(rule, endpoint=name, methods=["GET"]) for rule, name in ADDRESSES.items()]
        rules += [Rule(rule, endpoint=name, methods=[method]) for (method, rule), name in CHANGES.items()]
        self._addresses = Map(rules, merge_slashes=False)

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        request = Request(environ)
        response = self._answer(request)
        response.headers.update(HEADERS)
        if response.status_code >= 400 and request.method not in ("GET", "HEAD"):
            response.headers["Connection"] = "close"  # what was not read would be taken for the next request
        return response(environ, start_response)

    def _answer(self, request: Request) -> Response:
        if not self._check.allows(request.host):
            return told("this server has another name", 400)
        try:
            endpoint, values = self._addresses.bind_to_environ(request.environ).match()
            if endpoint in CHANGES.values():
                self._refuse(request)
            return getattr(self, f"answer_{endpoint}")(request, **values)
        except KeyError:
            return told("this song or part is not here, or not any more", 404)
        except TooLargeError as error:
            return told(error.message, 413)
        except OtherTypeError as error:
            return told(error.message, 415)
        except MixstyleError as error:
            return told(error.message, {"in-use": 429, "no-music": 410}.get(error.code, 400))
        except HTTPException as error:
            return told(error.description or error.name, error.code or 500)

    def _refuse(self, request: Request) -> None:
        """Raises Forbidden for what may not change anything here."""
        if not own_page_sent(request):
            raise Forbidden("another page asked for this; only the page of this server may")
        if self._about.why_not:
            raise Forbidden(self._about.why_not)
        if request.method == "POST" and request.mimetype not in TYPES:
            raise Forbidden(f"{request.mimetype or 'no type'}: send {' or '.join(sorted(TYPES))}")

    def answer_page(self, request: Request) -> Response:
        """The page itself."""
        return self.answer_assets(request, "index.html")

    def answer_assets(self, request: Request, name: str) -> Response:
        """A file of the page."""
        response = Response(*asset(name))
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        return response.make_conditional(request)

    def answer_pages(self, request: Request, name: str) -> Response:
        """The page of another command, with links to what is served here."""
        pages = self._about.pages
        try:
            text = pages[name].read_text(encoding="utf-8")
            written = date.fromtimestamp(pages[name].stat().st_mtime)
        except OSError as error:  # removed since
            raise KeyError(name) from error
        response = Response(as_served(text, list(pages), "/", written), mimetype="text/html")
        # these pages stand alone: their style is inside them, and their figures are data
        policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
        response.headers["Content-Security-Policy"] = policy
        return response

    def answer_about(self, _: Request) -> Response:
        """What the page says of itself, what it takes, and what was added to it."""
        about = self._about
        return as_json(
            {
                "version": about.version,
                "folder": about.folder,
                "date": about.date,
                "why_not": about.why_not,
                "most_mb": self._parts.dropped.most_mb,
                "suffixes": sorted(SUFFIXES),
                "pages": {name: day_of(path) for name, path in about.pages.items() if path.is_file()},
                "added": [views.track(track) for track in self._parts.library.added],
            }
        )

    def answer_songs(self, request: Request) -> Response:
        """The list."""
        return self._kept(request, "songs", lambda: views.listed(self._parts.library.songs))

    def answer_map(self, request: Request) -> Response:
        """The map."""
        return self._kept(request, "map", lambda: views.mapped(self._parts.library.songs))

    def answer_song(self, _: Request, key: str) -> Response:
        """A song, its neighbours, its descriptors."""
        library = self._parts.library
        return as_json(views.song(library, library.track(key)))

    def answer_pair(self, _: Request, key: str, other: str) -> Response:
        """Two songs side by side."""
        library = self._parts.library
        return as_json(views.pair(library, library.track(key), library.track(other)))

    def answer_opened(self, _: Request, key: str) -> Response:
        """Where a song's audio is, which is decoded for it."""
        track = self._parts.library.track(key)
        return as_json(views.audio(track, self._parts.listening.open(track)))

    def answer_stems(self, _: Request, key: str, clip: int) -> Response:
        """Where the stems of a clip are, which are separated for it."""
        track = self._parts.library.track(key)
        return as_json(views.stems(track, self._parts.listening.stems(track, clip), clip))

    def answer_audio(self, request: Request, key: str, part: str) -> Response:
        """A WAV file, or a range of it."""
        path = self._parts.listening.file(self._parts.library.track(key), part)
        return sent(request, path, "audio/wav")

    def answer_drop(self, request: Request) -> Response:
        """Takes a song and puts its embedding in line."""
        dropped, size = self._parts.dropped, request.content_length
        if size is None:
            raise LengthRequired("say how long the song is (Content-Length)")
        shown = dropped.check(request.args.get("name", ""), size)
        path = dropped.save(shown, request.stream, size)
        return as_json(dropped.start(self._parts.jobs, shown, path).as_json(), 202)

    def answer_match(self, request: Request) -> Response:
        """Puts a match in line."""
        if request.content_length is None or request.content_length > MOST_JSON_BYTES:
            raise LengthRequired("this is too long for a match, or its length is not known")
        asked = Asked.of(self._parts.library, request.get_json())
        return as_json(self._parts.matching.start(self._parts.jobs, asked).as_json(), 202)

    def answer_forget(self, _: Request, key: str) -> Response:
        """Forgets what was added."""
        self._parts.library.remove(key)
        return as_json({})

    def answer_stop(self, _: Request, name: str) -> Response:
        """Has a job stop."""
        job = self._parts.jobs.job(name)
        job.stop()
        return as_json(job.as_json())

    def answer_matched(self, _: Request, key: str) -> Response:
        """What a match has set."""
        return as_json(self._parts.matching.result(key))

    def answer_job(self, _: Request, name: str) -> Response:
        """How far a job is."""
        return as_json(self._parts.jobs.job(name).as_json())

    def answer_match_file(self, request: Request, key: str, name: str) -> Response:
        """What a match made, to keep."""
        path, title = self._parts.matching.file(key, name)
        return sent(request, path, "audio/wav" if path.suffix == ".wav" else "application/json", title)

    def _kept(self, request: Request, name: str, make: Callable[[], Any]) -> Response:
        """What stays as it is, made once."""
        with self._lock:
            if name not in self._made:
                self._made[name] = encoded(make())
        response = Response(self._made[name], mimetype="application/json")
        response.headers["Cache-Control"] = "no-cache"
        response.add_etag()
        return response.make_conditional(request)


def day_of(*paths: Path) -> str:
    """The day when the last of some files changed, as `26 November 2026`."""
    day = datetime.fromtimestamp(max(path.stat().st_mtime for path in paths))
    return f"{day.day} {day:%B %Y}"


def encoded(value: Any) -> bytes:
    """JSON without spaces."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def as_json(value: Any, status: int = 200) -> Response:
    """An answer that is not kept."""
    return Response(encoded(value), status, {"Cache-Control": "no-store"}, mimetype="application/json")


def told(reason: str, status: int) -> Response:
    """A refusal, in words."""
    return as_json({"error": printable(reason)}, status)


def sent(request: Request, path: Path, kind: str, title: str = "") -> Response:
    """A file or a range of it. title: of what is to be kept under a name. Raises KeyError where it is gone."""
    if not path.is_file():
        raise KeyError(path.name)
    kept = {"as_attachment": bool(title), "download_name": title or None}
    return send_file(path, request.environ, kind, conditional=True, max_age=3600, **kept)
