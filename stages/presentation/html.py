"""Pages that stand alone: one HTML file with its style and its figures inside it."""

import base64
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

STYLE_FILE = "page.css"
"""The style that all pages share, beside this module."""

_WRITTEN = '<time id="written"></time>'
_TELL_WRITTEN = """<script>
if (location.protocol === "file:") { // elsewhere, lastModified can be the time of the request
  const at = new Date(document.lastModified), two = (n) => String(n).padStart(2, "0");
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  document.getElementById("written").textContent = `written on ${day}`;
}
</script>
"""
"""Fills in the day on which the file was written."""


@dataclass(frozen=True)
class PageFigure:
    """A PNG with what is seen in it."""

    path: Path
    alt: str
    caption: str


@dataclass(frozen=True)
class Table:
    """A table whose first column names the row; the other cells are (value, remark in small print)."""

    caption: str
    head: Sequence[str]
    rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, tables, figures, in this order."""

    title: str
    paragraphs: Sequence[str] = ()
    tables: Sequence[Table] = ()
    figures: Sequence[PageFigure] = ()
    facts: Sequence[tuple[str, str]] = ()


def page(title: str, lead: str, sections: Sequence[Section], links: Sequence[tuple[str, str]] = ()) -> str:
    """The whole document. All text is escaped here; figures are read from their files.

    links: names and addresses of other pages, at the foot. Equal inputs give equal pages, so no date is written into
    them: opened as a file, a page shows when its file was last written, and a server puts that date in.
    """
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n</head>\n<body class='document'>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n{_foot(links)}</body>\n</html>\n'
    )


def links_from(page: Path, others: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Links of a page to those other pages that there are, by name, as relative addresses."""
    found = {name: path for name, path in others.items() if path.is_file()}
    folder = page.absolute().parent
    return [(name, Path(os.path.relpath(path.absolute(), folder)).as_posix()) for name, path in found.items()]


def as_served(text: str, names: Sequence[str], home: str, written: date) -> str:
    """A page as a server gives it: links to the pages of these names, others left out, and one to its own page; and
    the day on which its file was written."""

    def told(found: re.Match[str]) -> str:
        return f'<a data-page="{found[1]}" href="{found[1]}">' if found[1] in names else '<a hidden href="#">'

    text = re.sub(r'<a data-page="(\w+)" href="[^"]*">', told, text)
    text = text.replace(_WRITTEN, f"<time>written on {written.isoformat()}</time>").replace(_TELL_WRITTEN, "")
    return text.replace("</footer>", f' <a href="{home}">browse</a></footer>')


def _foot(links: Sequence[tuple[str, str]]) -> str:
    told = "".join(
        f' <a data-page="{escape(n)}" href="{escape(href, quote=True)}">{escape(n)}</a>' for n, href in links
    )
    return f"<footer>mixstyle {version('mixstyle')} {_WRITTEN}{told}</footer>\n{_TELL_WRITTEN}"


@cache
def _style() -> str:
    return files("mixstyle.stages.presentation").joinpath(STYLE_FILE).read_text(encoding="utf-8")


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    if section.facts:
        rows = "\n".join(
            f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>' for name, value in section.facts
        )
        parts.append(_scrolled(f'<table class="facts">\n{rows}\n</table>', section.title))
    parts += [_table(table) for table in section.tables]
    parts += [_figure(figure) for figure in section.figures]
    return "\n".join(parts)


def _table(table: Table) -> str:
    first, *rest = table.head
    corner = f'<th scope="col">{escape(first)}</th>' if first else "<td></td>"
    head = corner + "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in rest)
    rows = []
    for name, cells in table.rows:
        values = "".join(
            f'<td class="number">{escape(value)}' + (f"<small>{escape(remark)}</small>" if remark else "") + "</td>"
            for value, remark in cells
        )
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{values}</tr>')
    body = "\n".join(rows)
    caption = f"<caption>{escape(table.caption)}</caption>\n" if table.caption else ""
    told = f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"
    return _scrolled(told, table.caption or "table")


def _scrolled(content: str, name: str) -> str:
    """A table or a picture in a box that scrolls by itself, by keyboard too, where the window is narrower."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name, quote=True)}">\n{content}\n</div>'


def _figure(figure: PageFigure) -> str:
    data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(figure.alt, quote=True)}">'
    return f"<figure>\n{_scrolled(image, figure.alt)}\n<figcaption>{escape(figure.caption)}</figcaption>\n</figure>"
