"""Writes docs/reliability.md: runs the tests that docs/reliability_faults.yaml names, and counts what they tried.

`uv run python docs/make_reliability.py`. A case of a test counts once, or as often as it says by
`record_property("tried", n)`. Nothing is written where a test fails, is not there, or is skipped without a reason.
"""

import argparse
import datetime
import os
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "docs" / "reliability_faults.yaml"
PAGE = ROOT / "docs" / "reliability.md"
TRIED = "tried"
"""The property of a test that counts for itself."""
HEAD = "| fault | how it is made | times tried | what happens |\n|---|---|---|---|"


class NotHeldError(Exception):
    """A test that the table names does not hold what it should."""


@dataclass(frozen=True, order=True)
class Fault:
    """A row of the table. tests: node ids of tests, or files."""

    fault: str
    made: str
    happens: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """What a case of a test came to. test: its node id without parameters. skipped: why; "" where it ran."""

    test: str
    tried: int = 1
    skipped: str = ""
    failed: bool = False


def read_faults(path: Path = FAULTS) -> dict[str, list[Fault]]:
    """The faults by section, sorted within it. Raises ValueError for a row that lacks something or stands twice."""
    sections: dict[str, list[Fault]] = {}
    for name, rows in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        sections[name] = sorted((_fault(row) for row in rows), key=lambda row: row.fault.lower())
    names = [row.fault for rows in sections.values() for row in rows]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"{path}: stands twice: {sorted(twice)}")
    return sections


def _fault(row: Mapping[str, Any]) -> Fault:
    if set(row) != {"fault", "made", "happens", "tests"} or not all(row.values()):
        raise ValueError(f"{row.get('fault')}: should have fault, made, happens and tests")
    return Fault(str(row["fault"]), str(row["made"]), str(row["happens"]), tuple(row["tests"]))


def tests_of(sections: Mapping[str, Sequence[Fault]]) -> list[str]:
    """All tests that are named, each once, sorted."""
    return sorted({test for rows in sections.values() for row in rows for test in row.tests})


def outcomes_of(*reports: Path) -> list[Outcome]:
    """The cases of reports of pytest's (--junitxml, family xunit1); of one that stands in several the last counts."""
    cases = {(case.get("file"), case.get("name")): case for path in reports for case in ET.parse(path).iter("testcase")}
    return [_outcome(case) for case in cases.values()]


def _outcome(case: ET.Element) -> Outcome:
    tried = [element.get("value", "") for element in case.iter("property") if element.get("name") == TRIED]
    skipped = case.find("skipped")
    return Outcome(
        f"{case.get('file')}::{case.get('name', '').partition('[')[0]}",
        int(tried[-1]) if tried else 1,
        "" if skipped is None else (skipped.get("message") or "no reason"),
        any(case.find(kind) is not None for kind in ("failure", "error")),
    )


def of_row(row: Fault, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """The cases behind a row. Raises NotHeldError where one failed or was skipped without a reason, or none ran."""
    found: list[Outcome] = []
    for test in row.tests:
        own = [one for one in outcomes if one.test == test or one.test.startswith(f"{test}::")]
        if not own:
            raise NotHeldError(f"{row.fault}: {test} did not run")
        found += own
    for one in found:
        if one.failed:
            raise NotHeldError(f"{row.fault}: {one.test} failed")
        if one.skipped in ("no reason", "unconditional skip"):
            raise NotHeldError(f"{row.fault}: {one.test} was skipped without a reason")
    return found


def times(found: Sequence[Outcome]) -> str:
    """How often a fault was tried, and what was left out and why."""
    count = sum(one.tried for one in found if not one.skipped)
    reasons = sorted({one.skipped for one in found if one.skipped})
    left = f" (left out: {'; '.join(reasons)})" if reasons else ""
    return f"{count:,}{left}"


def page(sections: Mapping[str, Sequence[Fault]], outcomes: Sequence[Outcome], told: str) -> str:
    """The page's text. told: the line with date and machine."""
    parts = [
        "# What goes wrong, and what happens then",
        "Each row is a fault that people of this field reported of one tool or another, or that can befall files and "
        "machines. Tests make it, in inputs of their own, and hold what is said here; which tests a row stands on is "
        "in `docs/reliability_faults.yaml`. *Times tried* counts the cases that ran and passed, and within a case the "
        "bits, files or values that it damaged, where it counts them.",
        "```sh\nuv run python docs/make_reliability.py\n```",
        f"runs them and writes this page. {told}",
    ]
    for name, rows in sections.items():
        lines = [f"| {row.fault} | {row.made} | {times(of_row(row, outcomes))} | {row.happens} |" for row in rows]
        parts += [f"## {name}", "\n".join([HEAD, *lines])]
    return "\n\n".join(parts) + "\n"


def run_tests(tests: Sequence[str], report: Path, workers: str) -> int:
    """Runs tests of pytest, slow ones too, and writes their report; the status of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-n", workers]
    command += [f"--junitxml={report}", "-o", "junit_family=xunit1", *tests]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""}, check=False).returncode


def told() -> str:
    """Date and machine."""
    return f"Last done on {datetime.date.today():%d %B %Y}: {platform.system()}, Python {platform.python_version()}."


def main() -> None:
    """Runs the tests and writes the page; ends with status 1 and one line where a test does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-n", "--workers", default="auto", help="processes that run tests, as pytest -n")
    parser.add_argument(
        "--reports", type=Path, nargs="+", default=(), help="reports (--junitxml, family xunit1) of runs before"
    )
    given = parser.parse_args()
    sections = read_faults()
    with tempfile.TemporaryDirectory() as folder:
        reports, status = list(given.reports), 0
        if not reports:
            reports = [Path(folder) / "report.xml"]
            status = run_tests(tests_of(sections), reports[0], given.workers)
        try:
            if not all(report.is_file() for report in reports):
                raise NotHeldError("pytest wrote no report")
            text = page(sections, outcomes_of(*reports), told())
            if status:
                raise NotHeldError(f"pytest ended with status {status}")
        except NotHeldError as error:
            sys.exit(f"{PAGE.relative_to(ROOT)} was not written: {error}")
    PAGE.write_text(text, encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)}: {sum(map(len, sections.values()))} faults")


if __name__ == "__main__":
    main()
