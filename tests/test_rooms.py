"""Who may import whom, and what the repository's files must not hold."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FORBIDDEN = {"pipeline": {"cache", "stages"}, "cache": {"stages"}, "stages": set(), "api": set()}
SOURCES = [path for room in FORBIDDEN for path in sorted((ROOT / room).glob("*.py"))]


def imported(path: Path) -> set[str]:
    """Full names of the modules that a file imports, inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ("." * node.level) + (node.module or "")
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_room_imports_only_what_it_may(path: Path) -> None:
    names = imported(path)
    assert not any(name.startswith(".") for name in names), "relative imports hide which room is meant"
    for room in FORBIDDEN[path.parent.name]:
        assert not any(f"{name}.".startswith(f"mixstyle.{room}.") for name in names)


def test_pipeline_holds_no_command_line() -> None:
    for path in (ROOT / "pipeline").glob("*.py"):
        assert not imported(path) & {"typer", "rich", "argparse", "dvc"}, path.name


def test_every_room_is_there() -> None:
    assert len(SOURCES) > 20
    assert {path.parent.name for path in SOURCES} == set(FORBIDDEN)
