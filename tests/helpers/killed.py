"""Runs a command in a process of its own that is killed at a named moment, however fast or slow the machine is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

# The process kills itself, by the signal that cannot be caught: one that looks on from outside may, on a busy machine,
# get to look only after the run has ended.
SCRIPT = """
import os, runpy, signal, sys
moment = sys.argv.pop(1)
def look(event, arguments):
    if event in ("open", "os.rename") and os.path.exists(moment):
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(look)
runpy.run_module("mixstyle.stages", run_name="__main__", alter_sys=True)
"""


def run_until(moment: Path, *arguments: str, timeout_s: float = 600) -> None:
    """Runs `mixstyle ARGUMENTS` until a file exists: before the next one is opened or renamed, the process is killed.

    Raises AssertionError where it ended otherwise.
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", SCRIPT, str(moment), *arguments]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=timeout_s
    )
    assert done.returncode == -signal.SIGKILL, f"exit status {done.returncode}: {done.stderr}"
