"""Draws the Mermaid flowcharts of these pages as SVG when the site is built: no script, no network, no other program.

Only what these pages use of Mermaid is understood, and anything else is refused: `flowchart TD`, nodes `id["text"]`
(`<br>` breaks a line), files `id[("text")]`, and arrows `a --> b` or `a -- "text" --> b`. Nodes stand in rows by their
longest way from the start.
"""

import re
from html import escape
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_NODE = re.compile(r'(\w+)\[(\(?)"([^"]+)"\)?\]')
_ARROW = re.compile(r'(\w+) (?:-- "([^"]+)" )?--> (\w+)')
_LINE_PX, _CHARACTER_PX, _GAP_PX, _ROW_GAP_PX = 18, 7.4, 26, 52


class Chart:
    """A flowchart as read: text of each node, which nodes are files, and arrows with their words."""

    def __init__(self, source: str) -> None:
        self.texts: dict[str, list[str]] = {}
        self.files: set[str] = set()
        self.arrows: list[tuple[str, str, str]] = []
        first, *lines = [line.strip() for line in source.strip().splitlines() if line.strip()]
        if first != "flowchart TD":
            raise ValueError(f"{first!r}: only `flowchart TD` is drawn")
        for line in lines:
            if node := _NODE.fullmatch(line):
                self.texts[node[1]] = node[3].split("<br>")
                self.files |= {node[1]} if node[2] else set()
            elif arrow := _ARROW.fullmatch(line):
                self.arrows.append((arrow[1], arrow[3], arrow[2] or ""))
            else:
                raise ValueError(f"{line!r}: is no node and no arrow that this draws")
        unknown = {end for a, b, _ in self.arrows for end in (a, b)} - set(self.texts)
        if unknown:
            raise ValueError(f"arrows name {', '.join(sorted(unknown))}, which are no nodes")

    def rows(self) -> list[list[str]]:
        """Nodes by their longest way from the start."""
        rank = dict.fromkeys(self.texts, 0)
        for _ in self.texts:
            for a, b, _words in self.arrows:
                rank[b] = max(rank[b], rank[a] + 1)
        if max(rank.values()) >= len(rank):
            raise ValueError("the arrows form a circle")
        return [[node for node in rank if rank[node] == row] for row in range(max(rank.values()) + 1)]

    def svg(self) -> str:
        """The drawing."""
        size = {
            node: (max(map(len, text)) * _CHARACTER_PX + 24, len(text) * _LINE_PX + 18)
            for node, text in self.texts.items()
        }
        rows = self.rows()
        widths = [sum(size[n][0] for n in row) + _GAP_PX * (len(row) - 1) for row in rows]
        width, place, top = max(widths) + 20, {}, 10.0
        for row, row_width in zip(rows, widths, strict=True):
            left, height = (width - row_width) / 2, max(size[n][1] for n in row)
            for node in row:
                place[node] = (left + size[node][0] / 2, top + height / 2)
                left += size[node][0] + _GAP_PX
            top += height + _ROW_GAP_PX
        parts = [self._arrow(place, size, *arrow) for arrow in self.arrows]
        parts += [self._box(node, place[node], size[node]) for node in self.texts]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top - _ROW_GAP_PX + 10:.0f}" '
            'role="img" style="max-width:100%;font:13px sans-serif;color:inherit">'
            '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
            '<path d="M0,0 L9,4 L0,8 z" fill="currentColor"/></marker></defs>' + "".join(parts) + "</svg>"
        )

    def _box(self, node: str, place: tuple[float, float], size: tuple[float, float]) -> str:
        (x, y), (width, height) = place, size
        dash = ' stroke-dasharray="5 3"' if node in self.files else ""
        lines = self.texts[node]
        text = "".join(
            f'<text x="{x:.0f}" y="{y + (i - (len(lines) - 1) / 2) * _LINE_PX + 4:.0f}" text-anchor="middle" '
            f'fill="currentColor">{escape(line)}</text>'
            for i, line in enumerate(lines)
        )
        return (
            f'<rect x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width:.0f}" height="{height:.0f}" rx="6" '
            f'fill="none" stroke="currentColor"{dash}/>{text}'
        )

    def _arrow(
        self, place: dict[str, tuple[float, float]], size: dict[str, tuple[float, float]], a: str, b: str, words: str
    ) -> str:
        (ax, ay), (bx, by) = place[a], place[b]
        start, end = ay + size[a][1] / 2, by - size[b][1] / 2
        if end - start <= 1.5 * _ROW_GAP_PX:  # to the next row
            way = f"M{ax:.0f},{start:.0f} L{bx:.0f},{end:.0f}"
        else:  # past the rows between, by the side that it begins on
            side = -1 if ax < bx else 1
            ax, bx = ax + side * size[a][0] / 2, bx + side * size[b][0] / 2
            out = (min(ax, bx) if side < 0 else max(ax, bx)) + side * _GAP_PX * 2.5
            way = f"M{ax:.0f},{ay:.0f} C{out:.0f},{ay + 40:.0f} {out:.0f},{by - 40:.0f} {bx:.0f},{by:.0f}"
        line = f'<path d="{way}" fill="none" stroke="currentColor" marker-end="url(#tip)"/>'
        if not words:
            return line
        x, y = (ax + bx) / 2 + 6, (start + end) / 2 + 4
        return f'{line}<text x="{x:.0f}" y="{y:.0f}" fill="currentColor" font-style="italic">{escape(words)}</text>'


class Mermaid(SphinxDirective):
    """The fence ```mermaid."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The drawing as a raw node."""
        try:
            drawing = Chart("\n".join(self.content)).svg()
        except ValueError as error:
            raise self.error(f"mermaid: {error}") from error
        return [nodes.raw("", f"<figure>{drawing}</figure>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry."""
    app.add_directive("mermaid", Mermaid)
    return {"parallel_read_safe": True}
