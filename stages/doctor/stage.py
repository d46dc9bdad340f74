"""`mixstyle doctor`: machine, versions, devices, disk and models, and what is likely wrong, to paste in an issue.

Sections are printed as they are made, those that import torch last: where that ends the process, the others are kept.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.cache.storage.urls import url_of
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import say
from mixstyle.stages.doctor.findings import Failure, Problem, Section, as_json, as_text, public_text, section_of, tried

if TYPE_CHECKING:
    from mixstyle.stages.settings.profile import Settings

VERSION = 2
"""Of the JSON."""


def doctor(
    load: "Callable[[], Settings]", folder: Path | None = None, json_: bool = False, store: str = ""
) -> list[Section]:
    """Prints what it finds, as text or as JSON, and returns it. Never raises for what it finds.

    load: gives the profile's settings; where it cannot, the parts that need them are left out and the rest is told.
    folder: whose disk is measured; the profile's folder of stems without it. store: a URL that is measured instead of
    those of the profile. Raises MixstyleError ("bad-option") where it is none.
    """
    if store and not url_of(store):
        raise MixstyleError(f"--store {store}: is no URL, such as s3://bucket/folder", code="bad-option")
    settings = tried(load)
    sections = []
    for name, make in _parts(settings, folder, url_of(store)).items():
        sections.append(section_of(name, make))
        if not json_:
            for line in as_text(sections[-1]):
                say(line)
    problems = [problem for section in sections for problem in section.problems]
    if json_:
        print(json.dumps(_report(sections, problems), indent=2))
    else:
        _tell(problems)
    return sections


def _disk_of(settings: "Settings") -> Path:
    """Where stems go; of those behind a URL, what is copied of them."""
    stems = settings.separate.stems_dir
    return settings.train.stems_cache_dir if url_of(stems) else stems


def _parts(settings: "Settings | Failure", folder: Path | None, store: str) -> dict[str, Callable[[], Section]]:
    """The sections in their order, as functions that make them."""
    # Path(), which asks nothing of the system: the folder that a command runs in may be gone
    place = folder or (Path() if isinstance(settings, Failure) else _disk_of(settings))
    # each imports what it needs when its turn comes: one that cannot be imported is a line of its own
    separate = "mixstyle separate" if isinstance(settings, Failure) else completed(("separate",), settings)
    home = "mixstyle.stages.doctor"
    stores = {store: True} if store else _stores_of(settings)
    parts: dict[str, Callable[[], Section]] = {
        "machine": lambda: import_module(f"{home}.machine").machine_section(),
        "memory": lambda: import_module(f"{home}.machine").memory_section(),
        "versions": lambda: import_module(f"{home}.packages").versions_section(),
        "optional parts": lambda: import_module(f"{home}.packages").optional_section(),
        "disk": lambda: import_module(f"{home}.disk").disk_section(place, separate),
        "store": lambda: import_module(f"{home}.store").store_section(stores.items()),
        "profile": lambda: _profile_section(settings),
        "devices": lambda: import_module(f"{home}.devices").devices_section(),
    }
    if not stores:
        del parts["store"]
    if not isinstance(settings, Failure):
        parts["models"] = lambda: import_module(f"{home}.models").models_section(settings)
    return parts


def _stores_of(settings: "Settings | Failure") -> dict[str, bool]:
    """The profile's URLs, and whether commands write there."""
    if isinstance(settings, Failure):
        return {}
    from mixstyle.stages.doctor.store import stores_of

    return stores_of(settings)


def _profile_section(settings: "Settings | Failure") -> Section:
    if isinstance(settings, Failure):
        problem = Problem(f"the profile does not load: {settings.why}", "for the rest, run: mixstyle doctor")
        return Section("profile", {"loads": settings}, (problem,))
    return Section("profile", {"name": settings.profile, "loads": True})


def _report(sections: list[Section], problems: list[Problem]) -> dict[str, object]:
    told = [{"what": public_text(one.what), "remedy": public_text(one.remedy)} for one in problems]
    return {"version": VERSION, "sections": {one.name: as_json(one.facts) for one in sections}, "problems": told}


def _tell(problems: list[Problem]) -> None:
    say("what is likely wrong" if problems else "nothing seems wrong")
    for problem in problems:
        say(f"  {public_text(problem.what)}")
        if problem.remedy:
            say(f"    what helps: {public_text(problem.remedy)}")
