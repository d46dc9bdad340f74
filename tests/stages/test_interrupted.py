"""Commands that are stopped by Ctrl-C or by SIGTERM: one line and the status that shells know, nothing torn and no
process left, and the same command then ends as one that was never stopped."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count, cycle
from pathlib import Path

import pytest
from helpers.command_folder import COMMANDS, CONFIG, write_indexed, write_trained
from helpers.typed import INT, TERM, content, run, signals_as_in_a_shell
from torture.commands import BY_NAME, remove

from mixstyle.cache.storage import atomic
from mixstyle.stages.cli import GO_ON
from mixstyle.stages.common.progress import Bar
from mixstyle.stages.common.stopping import AGAIN, LINE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_indexed(tmp_path_factory.mktemp("interrupted"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trained(tmp_path_factory.mktemp("trained"))


def at(moment: str, number: int, patch: pytest.MonkeyPatch, nth: int = 0) -> Iterator[int]:
    """Sends this process a signal as the nth unit of work is counted, or as the nth output gets its name (from 0).

    Gives an iterator whose next value is how often that has been so far."""
    target, name = {"counted": (Bar, "advance"), "written": (atomic, "publish")}[moment]
    done: Callable[..., object] = getattr(target, name)
    calls = count()

    def interrupted(*arguments: object) -> object:
        if next(calls) == nth:
            os.kill(os.getpid(), number)
            time.sleep(0)  # Python looks for signals between two of its instructions
        return done(*arguments)

    patch.setattr(target, name, interrupted)
    return calls


def children() -> set[int]:
    """Processes of this one, but for those that multiprocessing keeps for itself."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    ).stdout
    lines = (line.split(maxsplit=1) for line in found.splitlines())
    return {int(pid) for pid, words in lines if "resource_tracker" not in words and not words.startswith("ps ")}


SLOW = ("demo-songs",)
MOMENTS = ("counted", "written")
STOPPED = [
    (command, number, moment)
    for place, command in enumerate(COMMANDS)
    for moment, number in zip(MOMENTS, (INT, TERM)[:: 1 if place % 2 else -1], strict=True)
    if (command, moment) not in (("features", "written"), ("demo-songs", "written"))  # which write by themselves
]


def is_slow(command: str, moment: str) -> bool:
    """Of each command one moment is slow, in turn: the others are of both moments and both signals."""
    return command in SLOW or MOMENTS.index(moment) == list(COMMANDS).index(command) // 2 % 2


@pytest.mark.parametrize(
    ("command", "number", "moment"),
    [pytest.param(*case, marks=[pytest.mark.slow] if is_slow(case[0], case[2]) else []) for case in STOPPED],
)
def test_a_stopped_command_says_a_line_and_goes_on(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    number: int,
    moment: str,
) -> None:
    monkeypatch.chdir(folder)
    out = tmp_path / "out"
    words = (command, *(word.replace("OUT", str(out)) for word in COMMANDS[command]))
    before = children()
    with monkeypatch.context() as patch:
        at(moment, number, patch)
        status = run(*words)
    told = capsys.readouterr()
    assert status == 128 + number, told
    assert told.err.splitlines()[-1] == (AGAIN if command in GO_ON else LINE)
    before_that = ("mixstyle: note: ", f"{command}: ", "separation: ")  # remarks and progress
    assert all(line.startswith(before_that) for line in told.err.splitlines()[:-1]), told.err
    assert "Traceback" not in told.out + told.err
    assert children() == before
    assert not [path for path in content(out) if path.endswith(".partial")] if out.exists() else True
    assert run(*words) == 0
    stopped = content(out)
    out.rename(tmp_path / "stopped")
    assert run(*words) == 0
    if command != "index":  # whose parts tell in how many goes they were made
        assert stopped == content(out)


TRAINED = ("evaluate", "report", "remix", "export")
"""Commands of which several phases are stopped."""


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINED)
def test_each_phase_of_a_command_is_stopped(
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
    command: str,
) -> None:
    """Stopped as its first unit of work is counted and its first output named, one in the middle, and the last."""
    monkeypatch.chdir(trained)
    stage = BY_NAME[command]
    words = (stage.name, *stage.words)

    def clear() -> None:
        for name in stage.made:
            remove(trained / name)

    def made() -> dict[str, bytes]:
        return {
            name: data for name, data in content(trained).items() if name.startswith(stage.made) and ".lock" not in name
        }

    numbers, tried = cycle((INT, TERM)), 0
    for moment in ("counted", "written"):
        clear()
        with monkeypatch.context() as patch:
            calls = at(moment, INT, patch, nth=-1)
            assert run(*words) == 0
        unbroken, total = made(), next(calls)
        assert total or moment == "counted"  # by a bar, which what takes a moment has none of
        for nth in sorted({0, total // 2, total - 1} & set(range(total))):
            clear()
            number = next(numbers)
            capsys.readouterr()
            with monkeypatch.context() as patch:
                at(moment, number, patch, nth)
                status = run(*words)
            told = capsys.readouterr()
            assert status == 128 + number, (moment, nth, total, told)
            assert told.err.splitlines()[-1] == (AGAIN if command in GO_ON else LINE)
            assert "Traceback" not in told.err + told.out
            assert not [name for name in made() if name.endswith(".partial")], (moment, nth)
            assert run(*words) == 0
            assert made() == unbroken, (moment, nth)
            tried += 1
    record_property("tried", tried)


def test_verify_is_stopped(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(folder)
    with monkeypatch.context() as patch:
        at("counted", TERM, patch)
        assert run("verify", *CONFIG) == 128 + TERM
    assert capsys.readouterr().err.splitlines() == [LINE]
    assert run("verify", *CONFIG) == 0


def test_what_breaks_on_the_way_to_a_stop_is_not_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A library may make an error of its own of the exception that stops the command."""
    monkeypatch.chdir(folder)

    def broken(*_: object) -> None:
        try:
            os.kill(os.getpid(), INT)
            time.sleep(1)
        except KeyboardInterrupt as error:
            raise ImportError("half of a library") from error

    monkeypatch.setattr(Bar, "advance", broken)
    assert run("verify", *CONFIG) == 128 + INT
    assert capsys.readouterr().err.splitlines() == [LINE]


EARLY = """
import os, runpy, signal, sys
from importlib.metadata import entry_points

class AtImport:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[-1]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, AtImport())
if sys.argv[1] == "script":
    (script,) = entry_points(group="console_scripts", name="mixstyle")
    script.load()()
else:
    runpy.run_module("mixstyle.stages", run_name="__main__")
"""


@pytest.mark.parametrize("way", ["script", "module"])
@pytest.mark.parametrize("module", ["typer", "mixstyle.stages.cli_steps"])
def test_ctrl_c_while_python_imports_is_told_in_a_line(way: str, module: str) -> None:
    """Sent as a module begins to be imported, which is its last word here."""
    paths = os.pathsep.join(path for path in sys.path if path)
    ran = subprocess.run(
        [sys.executable, "-P", "-c", EARLY, way, module],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (128 + INT, "", "mixstyle: stopped\n")


@pytest.mark.slow
def test_the_whole_group_is_stopped_as_by_a_terminal(tmp_path: Path) -> None:
    """Several processes that all get the signal: one line, no traceback, no word of leaked semaphores, and at once."""
    command = [sys.executable, "-P", "-m", "mixstyle.stages", "demo-songs", str(tmp_path / "out")]
    command += ["--songs", "2", "--duration", "3600", "--no-stems", "--config", "demo"]
    paths = os.pathsep.join(path for path in sys.path if path)
    with signals_as_in_a_shell():
        process = subprocess.Popen(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
    workers = 0
    deadline = time.monotonic() + 120
    while workers < 3 and time.monotonic() < deadline:  # the two that render, and the tracker of their semaphores
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
        workers = len(found.split())
        time.sleep(0.05)
    assert workers == 3
    os.killpg(process.pid, INT)
    _, errors = process.communicate(timeout=60)  # an hour of music takes minutes
    assert process.returncode == 128 + INT
    assert errors.splitlines() == [AGAIN]
    left = 1
    while left and time.monotonic() < deadline + 60:
        found = subprocess.run(["ps", "-eo", "pgid=,stat="], capture_output=True, text=True).stdout.splitlines()
        left = sum(int(line.split()[0]) == process.pid and "Z" not in line for line in found)
    assert left == 0
