"""The table of faults: its tests are there, the page has its rows, and a test that fails keeps the page back."""

import ast
import json
import sys
from pathlib import Path

import pytest
from helpers.paths import ROOT

sys.path.insert(0, str(ROOT / "docs"))
import make_reliability as reliability  # pyright: ignore[reportMissingImports]

OF = "digest of code and tests"
CASES = (
    '{"case": "tests/a.py::test_one[x]"}',
    '{"case": "tests/a.py::test_one[y]", "tried": 1200}',
    '{"case": "tests/a.py::test_two", "skipped": "no ffmpeg on this machine"}',
    '{"case": "tests/b.py::test_three", "failed": true}',
    '{"case": "tests/b.py::test_four", "skipped": "unconditional skip"}',
    '{"case": "tests/b.py::test_fi',  # where it was broken off
)


def outcomes(tmp_path: Path, *more: str) -> list[reliability.Outcome]:
    journal = tmp_path / "journal.jsonl"
    journal.write_text("\n".join((json.dumps({"of": OF}), *more, *CASES)))
    return reliability.outcomes_of(journal, OF)


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
    found = outcomes(tmp_path, '{"case": "tests/a.py::test_one[y]", "tried": 7, "failed": true}')  # and run again
    assert reliability.times(reliability.of_row(fault("tests/a.py::test_one"), found)) == "1,201"
    told = reliability.times(reliability.of_row(fault("tests/a.py"), found))
    assert told == "1,201 (left out: no ffmpeg on this machine)"
    text = reliability.page({"S": [fault("tests/a.py::test_one")]}, found, "then")
    assert text == reliability.page({"S": [fault("tests/a.py::test_one")]}, list(reversed(found)), "then")
    assert "| f | m | 1,201 | h |" in text
    assert reliability.outcomes_of(tmp_path / "journal.jsonl", "of other code") == []


@pytest.mark.parametrize("test", ["tests/b.py::test_three", "tests/b.py::test_four", "tests/b.py::test_one"])
def test_a_test_that_does_not_hold_keeps_the_page_back(tmp_path: Path, test: str) -> None:
    with pytest.raises(reliability.NotHeldError):
        reliability.of_row(fault("tests/a.py::test_one", test), outcomes(tmp_path))


@pytest.mark.slow
def test_a_run_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """A test file of its own, in processes as the command runs them."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.parametrize('place', [0, 1])\n"
        "def test_counts(place, record_property):\n"
        "    record_property('tried', 10 + place)\n"
        "def test_fails():\n"
        "    assert 0\n"
        "@pytest.mark.skipif(True, reason='no moon')\n"
        "def test_is_skipped():\n"
        "    pass\n"
    )
    journal = tmp_path / "journal.jsonl"
    test = str(tmp_path / "test_it.py")
    journal.write_text(json.dumps({"of": OF}) + "\n")
    assert reliability.run_tests([test], journal, [], "1") == 1
    found = {one.case.partition("::")[2]: one for one in reliability.outcomes_of(journal, OF)}
    assert {name: (one.tried, one.skipped, one.failed) for name, one in found.items()} == {
        "test_counts[0]": (10, "", False),
        "test_counts[1]": (11, "", False),
        "test_fails": (1, "", True),
        "test_is_skipped": (1, "no moon", False),
    }
    journal.write_text(json.dumps({"of": OF}) + "\n")
    reliability.run_tests([test], journal, [one.case for one in found.values() if "fails" not in one.case], "1")
    assert [one.case for one in reliability.outcomes_of(journal, OF)] == [found["test_fails"].case]
