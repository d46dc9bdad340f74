"""Pages that stand alone: their links to one another, on the disk and as a server gives them."""

import re
from pathlib import Path

from mixstyle.stages.presentation.html import Section, Table, links_from, page, with_links_to


def hrefs(text: str) -> list[str]:
    return re.findall(r'<a [^>]*href="([^"]*)"', text)


def test_a_page_links_to_the_pages_that_are_there(tmp_path: Path) -> None:
    own = tmp_path / "report" / "report.html"
    other = tmp_path / "a & b" / "evaluation.html"
    others = {"evaluation": other, "gone": tmp_path / "gone.html"}
    assert links_from(own, others) == []
    other.parent.mkdir()
    other.write_text("")
    links = links_from(own, others)
    assert [(own.parent / href).resolve() for _, href in links] == [other]
    text = page("a title", "", [], links)
    assert hrefs(text) == ["../a &amp; b/evaluation.html"]
    assert hrefs(with_links_to(text, ["evaluation"], "/")) == ["evaluation", "/"]
    assert hrefs(with_links_to(text, [], "/")) == ["#", "/"]


def test_tables_scroll_inside_their_box_by_keyboard_too() -> None:
    text = page(
        "t", "", [Section("s", tables=[Table('a "caption"', ["", "x"], [("r", [("1", "")])])], facts=[("a", "b")])]
    )
    boxes = re.findall(r'<div class="scroll" role="region" tabindex="0" aria-label="([^"]*)">\n<table', text)
    assert boxes == ["s", "a &quot;caption&quot;"]
    assert text.count("<table") == 2
