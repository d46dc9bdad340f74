"""The table of faults: its tests are there, the page has its rows, and a test that fails keeps the page back."""

import ast
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import make_reliability as reliability  # pyright: ignore[reportMissingImports]

REPORT = """<testsuites><testsuite>
<testcase file="tests/a.py" name="test_one[x]"/>
<testcase file="tests/a.py" name="test_one[y]"><properties><property name="tried" value="1200"/></properties></testcase>
<testcase file="tests/a.py" name="test_two"><skipped message="no ffmpeg on this machine"/></testcase>
<testcase file="tests/b.py" name="test_three"><failure message="x"/></testcase>
<testcase file="tests/b.py" name="test_four"><skipped message="unconditional skip"/></testcase>
</testsuite></testsuites>"""


def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    named = reliability.tests_of(reliability.read_faults())
    assert len(named) > 80
    for test in named:
        file, _, name = test.partition("::")
        found = functions(ROOT / file)
        assert name in found if name else any(one.startswith("test_") for one in found), test


def test_the_page_has_the_rows_of_the_table() -> None:
    shown: dict[str, list[list[str]]] = {}
    for line in reliability.PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            shown[line[3:]] = []
        elif line.startswith("| ") and shown:
            shown[next(reversed(shown))].append([cell.strip() for cell in line.strip("|").split(" | ")])
    sections = reliability.read_faults()
    assert list(shown) == list(sections)
    for name, rows in sections.items():
        cells = shown[name][1:]  # without the head
        assert [(row[0], row[1], row[3]) for row in cells] == [(row.fault, row.made, row.happens) for row in rows]
        counts = [int(row[2].partition(" ")[0].replace(",", "")) for row in cells]
        assert all(count > 0 or "left out" in row[2] for count, row in zip(counts, cells, strict=True))


def fault(*tests: str) -> reliability.Fault:
    return reliability.Fault("f", "m", "h", tests)


def test_cases_are_counted_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    outcomes = reliability.outcomes_of(tmp_path / "report.xml")
    assert reliability.times(reliability.of_row(fault("tests/a.py::test_one"), outcomes)) == "1,201"
    told = reliability.times(reliability.of_row(fault("tests/a.py"), outcomes))
    assert told == "1,201 (left out: no ffmpeg on this machine)"
    again = tmp_path / "again.xml"
    again.write_text(REPORT.replace('value="1200"', 'value="7"'))
    newer = reliability.outcomes_of(tmp_path / "report.xml", again)
    assert reliability.times(reliability.of_row(fault("tests/a.py::test_one"), newer)) == "8"
    text = reliability.page({"S": [fault("tests/a.py::test_one")]}, outcomes, "then")
    assert text == reliability.page({"S": [fault("tests/a.py::test_one")]}, list(reversed(outcomes)), "then")
    assert "| f | m | 1,201 | h |" in text


@pytest.mark.parametrize("test", ["tests/b.py::test_three", "tests/b.py::test_four", "tests/b.py::test_one"])
def test_a_test_that_does_not_hold_keeps_the_page_back(tmp_path: Path, test: str) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    with pytest.raises(reliability.NotHeldError):
        reliability.of_row(fault("tests/a.py::test_one", test), reliability.outcomes_of(tmp_path / "report.xml"))
