"""`mixstyle doctor`: machine, versions, devices, disk and models, and what is likely wrong, to paste in an issue.

Sections are printed as they are made, those that import torch last: where that ends the process, the others are kept.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from mixstyle.stages.common.commands import completed
from mixstyle.stages.common.progress import say
from mixstyle.stages.doctor.findings import Failure, Problem, Section, as_json, as_text, section_of, tried, without_home

if TYPE_CHECKING:
    from mixstyle.stages.settings.profile import Settings

VERSION = 2
"""Of the JSON."""


def doctor(load: "Callable[[], Settings]", folder: Path | None = None, json_: bool = False) -> list[Section]:
    """Prints what it finds, as text or as JSON, and returns it. Never raises for what it finds.

    load: gives the profile's settings; where it cannot, the parts that need them are left out and the rest is told.
    folder: whose disk is measured; the profile's folder of stems without it.
    """
    settings = tried(load)
    sections = []
    for name, make in _parts(settings, folder).items():
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
    from mixstyle.cache.storage.urls import url_of

    stems = settings.separate.stems_dir
    return settings.train.stems_cache_dir if url_of(stems) else stems


def _parts(settings: "Settings | Failure", folder: Path | None) -> dict[str, Callable[[], Section]]:
    """The sections in their order, as functions that make them."""
    # Path(), which asks nothing of the system: the folder that a command runs in may be gone
    place = folder or (Path() if isinstance(settings, Failure) else _disk_of(settings))
    # each imports what it needs when its turn comes: one that cannot be imported is a line of its own
    separate = "mixstyle separate" if isinstance(settings, Failure) else completed(("separate",), settings)
    home = "mixstyle.stages.doctor"
    parts: dict[str, Callable[[], Section]] = {
        "machine": lambda: import_module(f"{home}.machine").machine_section(),
        "memory": lambda: import_module(f"{home}.machine").memory_section(),
        "versions": lambda: import_module(f"{home}.packages").versions_section(),
        "optional parts": lambda: import_module(f"{home}.packages").optional_section(),
        "disk": lambda: import_module(f"{home}.disk").disk_section(place, separate),
        "profile": lambda: _profile_section(settings),
        "devices": lambda: import_module(f"{home}.devices").devices_section(),
    }
    if not isinstance(settings, Failure):
        parts["models"] = lambda: import_module(f"{home}.models").models_section(settings)
    return parts


def _profile_section(settings: "Settings | Failure") -> Section:
    if isinstance(settings, Failure):
        problem = Problem(f"the profile does not load: {settings.why}", "for the rest, run: mixstyle doctor")
        return Section("profile", {"loads": settings}, (problem,))
    return Section("profile", {"name": settings.profile, "loads": True})


def _report(sections: list[Section], problems: list[Problem]) -> dict[str, object]:
    told = [{"what": without_home(one.what), "remedy": without_home(one.remedy)} for one in problems]
    return {"version": VERSION, "sections": {one.name: as_json(one.facts) for one in sections}, "problems": told}


def _tell(problems: list[Problem]) -> None:
    say("what is likely wrong" if problems else "nothing seems wrong")
    for problem in problems:
        say(f"  {without_home(problem.what)}")
        if problem.remedy:
            say(f"    what helps: {without_home(problem.remedy)}")
