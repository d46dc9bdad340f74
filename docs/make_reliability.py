"""Writes docs/reliability.md: runs the tests that docs/reliability_faults.yaml names, and counts what they tried.

`uv run python docs/make_reliability.py`. A case of a test counts once, or as often as it says by
`record_property("tried", n)`. Nothing is written where a test fails, is not there, or is skipped without a reason.

The tests run in one go of pytest, which has this module as a plugin: each case is written down (`JOURNAL`) as it ends.
Where that is broken off, or a case failed, the same command runs what is not written down yet, as long as neither code
nor tests changed.
"""

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
FAULTS = ROOT / "docs" / "reliability_faults.yaml"
PAGE = ROOT / "docs" / "reliability.md"
JOURNAL = ROOT / "build" / "reliability.jsonl"
"""What ran so far: a line with the digest of code and tests, then one a case."""
READ = ("api", "pipeline", "stages", "cache", "configs", "tests")
"""Folders that what tests come to follows from."""
DONE, WRITTEN = "MIXSTYLE_RELIABILITY_DONE", "MIXSTYLE_RELIABILITY_JOURNAL"
"""Variables that tell the plugin which cases not to run again, a line each in a file, and where to write."""
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
    """What a case of a test came to. case: its node id. skipped: why; "" where it ran."""

    case: str
    tried: int = 1
    skipped: str = ""
    failed: bool = False

    @property
    def test(self) -> str:
        """Its node id without parameters."""
        return self.case.partition("[")[0]


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


def outcomes_of(journal: Path, of: str) -> list[Outcome]:
    """The cases of a journal; of one that stands there several times the last counts.

    of: the digest of code and tests; of a journal of other ones nothing is taken. A line that was cut short is left
    out.
    """
    if not journal.is_file():
        return []
    first, *lines = journal.read_text(encoding="utf-8").split("\n")
    if first != json.dumps({"of": of}):
        return []
    cases = (Outcome(**json.loads(line)) for line in lines if line.endswith("}"))
    return list({one.case: one for one in cases}.values())


def digest_of_code() -> str:
    """Of the code and the tests, by their files' names and content."""
    digest = hashlib.sha256()
    for path in sorted(path for folder in READ for path in (ROOT / folder).rglob("*")):
        if path.is_file() and path.suffix not in (".pyc", ".so") and "__pycache__" not in path.parts:
            digest.update(f"{path.relative_to(ROOT)}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


class Journal:
    """The plugin of pytest's main process: writes down each case as it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._begun: dict[str, Outcome] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        one = self._begun.pop(report.nodeid, Outcome(report.nodeid))
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            one = replace(one, skipped=reason.removeprefix("Skipped: ") or "no reason")
        tried = [value for name, value in report.user_properties if name == TRIED]
        one = replace(one, failed=one.failed or report.failed, tried=int(str(tried[-1])) if tried else one.tried)
        if report.when != "teardown":
            self._begun[report.nodeid] = one
            return
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(one)) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    """Takes the journal, where this is pytest's main process."""
    if WRITTEN in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        config.pluginmanager.register(Journal(Path(os.environ[WRITTEN])), "reliability-journal")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what was written down before this go."""
    if DONE in os.environ:
        done = set(Path(os.environ[DONE]).read_text(encoding="utf-8").splitlines())
        items[:] = [item for item in items if item.nodeid not in done]


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
        "Each row of these tables is a fault that users of audio tools have reported, or that can happen to files and "
        "machines. Tests cause the fault in their own inputs, and check what the row says. "
        "`docs/reliability_faults.yaml` lists the tests of each row. *Times tried* counts the cases that ran and "
        "passed. If a test counts the bits, files or values that it damaged, each of them is one.",
        "This command runs the tests and writes this page:",
        "```sh\nuv run python docs/make_reliability.py\n```",
        f"If it is stopped, the same command continues. {told}",
        "Three other commands cause faults at random, for as long as you like. At the end, they compare the outputs:",
        "- `uv run python tests/torture/kills.py --folder FOLDER` for the commands on one machine\n"
        "- `uv run python tests/torture/store_faults.py` for object stores\n"
        "- `uv run python tests/torture/ray_kills.py` for clusters",
        "[Broken at random](scale.md#broken-at-random) has their results.",
    ]
    for name, rows in sections.items():
        lines = [f"| {row.fault} | {row.made} | {times(of_row(row, outcomes))} | {row.happens} |" for row in rows]
        parts += [f"## {name}", "\n".join([HEAD, *lines])]
    return "\n\n".join(parts) + "\n"


def run_tests(tests: Sequence[str], journal: Path, done: Iterable[str], workers: str) -> int:
    """Runs tests of pytest, slow ones too, but for the cases that are done; the status of pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "", "-n", workers, "-p", "make_reliability", *tests]
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "done.txt"
        listed.write_text("\n".join(done), encoding="utf-8")
        paths = os.pathsep.join([str(ROOT / "docs"), *filter(None, [os.environ.get("PYTHONPATH")])])
        ours = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPATH": paths, DONE: str(listed), WRITTEN: str(journal)}
        # Of a worker of another pytest (a test of this function) nothing is handed on: this one is a main process.
        given = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return subprocess.run(command, cwd=ROOT, env={**given, **ours}, check=False).returncode


def told() -> str:
    """Date and machine."""
    return f"Last done on {datetime.date.today():%d %B %Y}: {platform.system()}, Python {platform.python_version()}."


NOTHING_RAN = 5
"""The status of pytest where all cases are done."""


def main() -> None:
    """Runs the tests and writes the page; ends with status 1 and one line where a test does not hold."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-n", "--workers", default="auto", help="processes that run tests, as pytest -n")
    parser.add_argument("--all", action="store_true", help="runs all, also what a run that was broken off has done")
    given = parser.parse_args()
    sections, of = read_faults(), digest_of_code()
    before = [] if given.all else [one for one in outcomes_of(JOURNAL, of) if not one.failed]
    if before:
        print(f"{len(before)} cases were run before; the others follow", flush=True)
    JOURNAL.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"of": of}), *(json.dumps(asdict(one)) for one in before)]
    JOURNAL.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    status = run_tests(tests_of(sections), JOURNAL, [one.case for one in before], given.workers)
    try:
        if digest_of_code() != of:
            raise NotHeldError("code or tests were changed meanwhile")
        text = page(sections, outcomes_of(JOURNAL, of), told())
        if status not in (0, NOTHING_RAN):
            raise NotHeldError(f"pytest ended with status {status}")
    except NotHeldError as error:
        sys.exit(f"{PAGE.relative_to(ROOT)} was not written: {error}")
    PAGE.write_text(text, encoding="utf-8")
    JOURNAL.unlink()
    print(f"{PAGE.relative_to(ROOT)}: {sum(map(len, sections.values()))} faults")


if __name__ == "__main__":
    main()
