"""Where the pages of a profile's commands are, so that they can link to one another."""

import posixpath
from pathlib import Path

from mixstyle.cache.storage.urls import url_of
from mixstyle.stages.presentation.html import links_from
from mixstyle.stages.settings.profile import Settings

REPORT, EVALUATION = "report", "evaluation"
NAMES = {REPORT: "report.html", EVALUATION: "evaluation.html"}


def page_paths(settings: Settings) -> dict[str, Path]:
    """The pages by name, whether they are there or not; URLs as paths, where settings name them."""
    folders = {REPORT: settings.report.report_dir, EVALUATION: settings.evaluate.evaluate_dir}
    return {name: folder / NAMES[name] for name, folder in folders.items()}


def links_of(settings: Settings, own: str) -> list[tuple[str, str]]:
    """Links of a page to the others that are there. A page in a folder has none to what is behind a URL, and the other
    way about."""
    paths = page_paths(settings)
    page, others = paths[own], {name: path for name, path in paths.items() if name != own}
    return _links_behind(url_of(page), others) if url_of(page) else links_from(page, others)


def _links_behind(url: str, others: dict[str, Path]) -> list[tuple[str, str]]:
    """Links of a page behind a URL to those in the same bucket that are there."""
    from mixstyle.cache.storage.remote_store import RemoteStore  # not for pages in folders

    found = []
    for name, path in others.items():
        folder, _, file = url_of(path).rpartition("/")
        if _bucket(folder) == _bucket(url) and RemoteStore(folder).stored(file) is not None:
            found.append((name, posixpath.relpath(f"{folder}/{file}", posixpath.dirname(url))))
    return found


def _bucket(url: str) -> list[str]:
    """What the parts of a URL begin with: its scheme and its bucket."""
    return url.split("/")[:3]
