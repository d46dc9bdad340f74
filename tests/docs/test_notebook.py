"""The notebook runs from top to bottom, on the demo's cache."""

import ast
import importlib
from pathlib import Path

import nbformat
import pytest
from helpers.paths import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "docs" / "mixstyle.ipynb"


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    # Where the demo has not been made yet, its first cell makes it.
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    told = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert "the nearest other clip has the same preset for" in told
    assert "Traceback" not in told


def test_the_notebook_imports_names_that_are_there() -> None:
    code = [cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    trees = [ast.parse(text) for text in code]
    imports = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if str(node.module).startswith("mixstyle.")]
    assert len(ours) >= 3
    for node in ours:
        for alias in node.names:
            assert hasattr(importlib.import_module(str(node.module)), alias.name), f"{node.module}.{alias.name}"


def test_the_notebook_tells_of_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) < 1_000_000
    for path in ("/tmp", "/home", "/root", "/usr", "site-packages", str(Path.home()), str(NOTEBOOK.parent.parent)):
        assert path not in text
