"""The files of the page: plain HTML, CSS and JavaScript modules, as they are in the folder `assets`, and the style that
all pages share. They are looked up by name among those that are there."""

from functools import cache
from importlib.resources import files

from mixstyle.stages.presentation.html import STYLE_FILE

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@cache
def _files() -> dict[str, bytes]:
    folder = files("mixstyle.stages.songs.browse").joinpath("assets")
    found = {entry.name: entry.read_bytes() for entry in folder.iterdir() if entry.is_file()}
    shared = files("mixstyle.stages.presentation").joinpath(STYLE_FILE)
    return {**found, shared.name: shared.read_bytes()}


def asset(name: str) -> tuple[bytes, int, dict[str, str]]:
    """Content, status and headers. Raises KeyError for a name that there is not."""
    return _files()[name], 200, {"Content-Type": _TYPES["." + name.rpartition(".")[2]]}
