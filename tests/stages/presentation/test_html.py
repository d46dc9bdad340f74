"""Pages that stand alone: their links to one another, on the disk and as a server gives them."""

import re
from datetime import date
from importlib.resources import files
from pathlib import Path

from mixstyle.stages.presentation.html import STYLE_FILE, Section, Table, as_served, links_from, page


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
    day = date(2026, 2, 3)
    served = as_served(text, ["evaluation"], "/", day)
    assert hrefs(served) == ["evaluation", "/"]
    assert hrefs(as_served(text, [], "/", day)) == ["#", "/"]
    assert "written on 2026-02-03" in served
    assert "<script" not in served, "the server's policy forbids scripts inside a page"


def test_tables_scroll_inside_their_box_by_keyboard_too() -> None:
    text = page(
        "t", "", [Section("s", tables=[Table('a "caption"', ["", "x"], [("r", [("1", "")])])], facts=[("a", "b")])]
    )
    boxes = re.findall(r'<div class="scroll" role="region" tabindex="0" aria-label="([^"]*)">\n<table', text)
    assert boxes == ["s", "a &quot;caption&quot;"]
    assert text.count("<table") == 2


def _luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_stand_out_from_their_background() -> None:
    style = files("mixstyle.stages.presentation").joinpath(STYLE_FILE).read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", style, re.S)
    roots = [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]
    assert len(roots) == 2, "light and dark"
    assert roots[0].keys() == roots[1].keys()
    for colours in roots:
        for back in ("back", "panel", "chosen"):
            for text in ("text", "soft", "link", "bad", "good"):  # 4.5: text, WCAG 1.4.3
                assert _contrast(colours[text], colours[back]) >= 4.5, (text, back, colours[text])
            for line in ("accent", "vocals", "bass", "drums", "other"):  # 3: parts of controls, 1.4.11
                assert _contrast(colours[line], colours[back]) >= 3, (line, back)
        assert _contrast(colours["edge"], colours["back"]) >= 3
        assert _contrast(colours["on-accent"], colours["accent"]) >= 4.5
