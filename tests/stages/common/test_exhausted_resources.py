"""What the machine has no more of is told in one line with what helps, whoever raises it."""

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT

from mixstyle.stages import cli
from mixstyle.stages.common.exhausted_resources import FILES_WANTED, exhaustion, folder_is_gone, raise_file_limit


@pytest.fixture
def limit() -> Iterator[tuple[int, int]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def many_files() -> None:
    """Opens files until the system refuses."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/proc/self/fd").iterdir())) + 8, hard))
    held: list[int] = []
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for each in held:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def much_memory() -> None:
    bytearray(1 << 62)


def a_tensor_beyond_memory() -> None:
    torch.empty(1 << 50)


def no_thread() -> None:
    raise RuntimeError("can't start new thread")  # CPython's words (threading); a limit does not hold for root


@pytest.mark.parametrize(
    ("run", "number", "helps"),
    [
        (many_files, errno.EMFILE, "ulimit -n"),
        (much_memory, errno.ENOMEM, "--help"),
        (a_tensor_beyond_memory, errno.ENOMEM, "--help"),
        (no_thread, errno.EAGAIN, "ulimit -u"),
    ],
)
@pytest.mark.usefixtures("limit")
def test_what_runs_out_is_told_in_a_line(
    run: Callable[[], None], number: int, helps: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same line, whoever found that it ran out: the system by its number, or a library."""
    with pytest.raises(SystemExit) as caught:
        cli.main(run)
    errors = capsys.readouterr().err
    told = exhaustion(OSError(number, os.strerror(number)))
    assert told
    assert (caught.value.code, errors, helps in errors) == (1, f"mixstyle: error: {told}\n", True)


def test_a_mistake_of_the_programmer_is_not_taken_for_it() -> None:
    for error in (RuntimeError("shapes cannot be multiplied"), ValueError("out of memory"), OSError(2, "No such file")):
        assert exhaustion(error) is None
    with pytest.raises(RuntimeError, match="shapes"):
        cli.main(lambda: torch.empty(2, 3) @ torch.empty(2, 3))


def test_the_limit_on_open_files_is_raised_as_far_as_it_goes(limit: tuple[int, int]) -> None:
    hard = limit[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    raise_file_limit()
    expected = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (expected, hard)
    raise_file_limit()  # and not lowered
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (expected, hard)


def test_a_folder_that_is_gone_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    before = Path.cwd()
    assert folder_is_gone() is None
    os.chdir(gone)
    try:
        gone.rmdir()
        told = folder_is_gone()
        with pytest.raises(SystemExit) as caught:
            cli.main(lambda: None)
    finally:
        os.chdir(before)
    errors = capsys.readouterr().err
    assert (caught.value.code, errors) == (1, f"mixstyle: error: {told}\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_file_never_gets_the_number_of_a_closed_output(tmp_path: Path, closed: str) -> None:
    """What a library prints below Python would otherwise go into the first file that is written."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from mixstyle.stages import cli\n"
        "def run():\n"
        "    import os\n"
        f"    file = os.open({str(tmp_path / 'output')!r}, os.O_CREAT | os.O_WRONLY)\n"
        "    print('a line'); print('a line', file=sys.stderr); assert not sys.stdout.isatty()\n"
        "    for number in (1, 2):\n"
        "        os.write(number, b'of a library')\n"
        "    os.write(file, b'data')\n"
        "    os.system('echo of a child; echo of a child >&2')\n"
        "cli.main(run)\n"
    )
    done = subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {closed}', sys.executable, code], capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "output").read_bytes() == b"data"
