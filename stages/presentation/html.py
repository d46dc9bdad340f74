"""The report's page: one HTML file that stands alone, with its figures inside it."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

_STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; color: #1a1a1a;
  background: #fff; max-width: 1060px; margin: 0 auto; padding: 2.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: .9rem; border-top: 1px solid #ddd; }
p { max-width: 46rem; margin: .5rem 0; }
.lead { font-size: 1.1rem; color: #333; }
.note { color: #555; font-size: .92rem; }
figure { margin: 1.2rem 0 1.8rem; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: #444; font-size: .92rem; max-width: 50rem; margin-top: .5rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .38rem 1.4rem .38rem 0; border-bottom: 1px solid #e5e5e5; vertical-align: top; }
th { font-weight: 600; }
thead th { border-bottom: 2px solid #999; }
td.number, th.number { text-align: right; white-space: nowrap; }
td small { color: #666; margin-left: .35rem; }
caption { text-align: left; color: #444; font-size: .92rem; padding-bottom: .4rem; }
.facts th { white-space: nowrap; font-weight: 500; color: #555; }
.facts td { overflow-wrap: anywhere; }
@media print { body { padding: 0; } h2 { break-after: avoid; } figure, table { break-inside: avoid; } }
"""


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


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document. All text is escaped here; figures are read from their files."""
    body = "\n".join(_section(section) for section in sections)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n{body}\n</body>\n</html>\n'
    )


def _section(section: Section) -> str:
    parts = [f"<h2>{escape(section.title)}</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in section.paragraphs]
    if section.facts:
        rows = "\n".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in section.facts)
        parts.append(f'<table class="facts">\n{rows}\n</table>')
    parts += [_table(table) for table in section.tables]
    parts += [_figure(figure) for figure in section.figures]
    return "\n".join(parts)


def _table(table: Table) -> str:
    first, *rest = table.head
    head = f"<th>{escape(first)}</th>" + "".join(f'<th class="number">{escape(name)}</th>' for name in rest)
    rows = []
    for name, cells in table.rows:
        values = "".join(
            f'<td class="number">{escape(value)}' + (f"<small>{escape(remark)}</small>" if remark else "") + "</td>"
            for value, remark in cells
        )
        rows.append(f"<tr><th>{escape(name)}</th>{values}</tr>")
    body = "\n".join(rows)
    caption = f"<caption>{escape(table.caption)}</caption>\n" if table.caption else ""
    return f"<table>\n{caption}<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>"


def _figure(figure: PageFigure) -> str:
    data = base64.b64encode(figure.path.read_bytes()).decode("ascii")
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(figure.alt, quote=True)}">'
    return f"<figure>\n{image}\n<figcaption>{escape(figure.caption)}</figcaption>\n</figure>"
