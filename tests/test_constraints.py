"""constraints.txt pins every dependency, within what pyproject.toml allows, and names no server."""

import re
import tomllib

from helpers.paths import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def direct() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    texts = list(project["project"]["dependencies"])
    for extra in project["project"]["optional-dependencies"].values():
        texts += extra
    for group in project["dependency-groups"].values():
        texts += group
    return [Requirement(text) for text in texts]


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    pins: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        pin = Requirement(line)
        (specifier,) = pin.specifier
        assert specifier.operator == "==", line
        pins.setdefault(canonicalize_name(pin.name), []).append(specifier.version)
    wanted = direct()
    assert len(wanted) > 30
    for requirement in wanted:
        versions = pins.get(canonicalize_name(requirement.name), [])
        assert versions, f"{requirement.name} is not in constraints.txt: see CONTRIBUTING.md"
        assert all(requirement.specifier.contains(version) for version in versions), f"{requirement}: {versions}"


def test_no_server_and_no_path_is_named() -> None:
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"://|@|^[-./]|\bfile:|index-url|find-links", text, re.MULTILINE)
