"""Relative links in Markdown lead to files, and to headings that are there."""

import re
import subprocess

import pytest
from helpers.paths import ROOT

_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
GENERATED = "_api/"  # pages of the API reference, made when the site is built


def pages() -> list[str]:
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted(found.stdout.split())


def anchors(text: str) -> set[str]:
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in _HEADING.findall(text)}


@pytest.mark.parametrize("page", pages())
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    for link in _LINK.findall(path.read_text(encoding="utf-8")):
        if "://" in link or link.startswith((GENERATED, "mailto:")):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name) if name else path
        assert target.exists(), f"{page}: {link}"
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), f"{page}: {link}"


def test_a_broken_link_is_seen() -> None:
    assert _LINK.findall("see [that](docs/none.md#place) and `x[1](2)`") == ["docs/none.md#place", "2"]
    assert anchors("# A b-c: d?\n## `x` and y\n") == {"a-b-c-d", "x-and-y"}


def test_every_page_of_docs_is_in_the_navigation() -> None:
    listed = set()
    for page in ("index.md", "api.md"):
        for block in re.findall(r"```\{toctree\}(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL):
            listed |= {line.strip().removesuffix(".md") for line in block.splitlines()}
    own = {path.stem for path in (ROOT / "docs").glob("*.md")} - {"index"}
    assert own <= listed
    assert "mixstyle.ipynb" in listed
