"""What the pages name is there: files and packages, the diagram's drawing, the files about the project itself."""

import ast
import builtins
import re
import sys
from pathlib import Path

import pytest
import yaml
from helpers.paths import ROOT

_PATH = re.compile(r"`((?:pipeline|cache|stages|api|tests|docs|configs|benchmarks)/[\w./*-]*)`")
IGNORED = [line.strip("/*") for line in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines() if "/" in line]
"""What git ignores is made later: no clone has it."""


def named(text: str) -> set[str]:
    return {path for path in _PATH.findall(text) if not path.startswith(tuple(IGNORED))}


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/formats.md", "docs/training.md", "CONTRIBUTING.md"])
def test_files_and_packages_that_a_page_names_are_there(page: str) -> None:
    missing = {path for path in named((ROOT / page).read_text(encoding="utf-8")) if not list(ROOT.glob(path))}
    assert missing == set()


def test_python_of_the_readme_defines_what_it_uses() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        defined = set(dir(builtins))
        for statement in ast.parse(block).body:
            names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
            inner = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
            inner |= {node.id for node in names if isinstance(node.ctx, ast.Store)}
            used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
            assert used - inner <= defined, f"{sorted(used - inner - defined)} in\n{block}"
            imports = [node for node in ast.walk(statement) if isinstance(node, ast.Import | ast.ImportFrom)]
            aliases = [alias for node in imports for alias in node.names]
            defined |= inner | {(alias.asname or alias.name).partition(".")[0] for alias in aliases}


def test_the_glossary_leads_to_files_of_today() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", text[text.index("| was | is |") :], re.MULTILINE)[1:]
    assert len(rows) > 20
    missing = {path for _, now in rows for path in named(now) if not list(ROOT.glob(path))}
    assert missing == set()


def test_each_term_stands_once() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", text[: text.index("## For those")], re.MULTILINE)
    terms = [term.strip() for row in rows[1:] for term in row.split(",")]
    assert len(terms) == len(set(terms)) > 40
    assert terms == sorted(terms, key=str.lower) or [row.lower() for row in rows[2:]] == sorted(
        map(str.lower, rows[2:])
    )


def test_packages_of_the_diagram_and_the_table_are_all_packages() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = named(text[text.index("## Packages") :])
    for layer in ("pipeline", "cache", "stages"):
        own = {path.parent for path in (ROOT / layer).glob("*/__init__.py")}
        for folder in own:
            name = folder.relative_to(ROOT).as_posix()
            assert name in listed or f"`{folder.name}`" in text, f"{name} is not in docs/architecture.md"


def test_the_diagram_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sphinx", reason="the group `docs` is not installed")
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs" / "_extensions"), *sys.path])
    from mermaid_svg import Chart  # pyright: ignore[reportMissingImports]

    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"```mermaid\n(.*?)```", text, re.DOTALL)
    chart = Chart(source)
    rows = chart.rows()
    row = {node: place for place, nodes in enumerate(rows) for node in nodes}
    assert all(row[a] < row[b] for a, b, _ in chart.arrows)
    drawing = chart.svg()
    assert drawing.count("<rect") == len(chart.texts)
    assert drawing.count("marker-end=") == len(chart.arrows)
    assert all(line.replace("&", "&amp;") in drawing for text in chart.texts.values() for line in text)
    for wrong in ("graph LR", 'flowchart TD\na["x"]\na --> b', 'flowchart TD\na["x"]\na --> a', "flowchart TD\na{x}"):
        with pytest.raises(ValueError, match=r"only|no nodes|circle|no node"):
            Chart(wrong).rows()


def test_the_citation_names_the_author_of_the_method() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    (reference,) = citation["references"]
    assert reference["authors"] == [{"given-names": "Barry", "family-names": "Cheng"}]
    assert reference["title"] in (ROOT / "README.md").read_text(encoding="utf-8")


def test_hooks_are_our_own() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    assert [hook["id"] for hook in config["repos"][0]["hooks"]] == ["ruff-check", "ruff-format", "pyright"]
    assert Path(ROOT / ".ci" / "run").stat().st_mode & 0o100
