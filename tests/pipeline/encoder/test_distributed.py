"""Several processes: what one waits for."""

import os
import subprocess
import sys

import pytest
from helpers.ports import free_ports

pytestmark = pytest.mark.slow  # processes that import torch

WAIT = """
import sys, time
from datetime import timedelta
from mixstyle.pipeline.encoder.distributed import join_ranks, leave_ranks, wait_for_ranks, world
join_ranks("gloo", timedelta(seconds=4))
if world()[0] == 0:
    time.sleep(6)  # longer than an exchange of numbers may take
    if sys.argv[1] == "ends":
        sys.exit(3)
try:
    wait_for_ranks()
except RuntimeError:
    sys.exit(4)
leave_ranks()
"""


def ranks(first: str) -> list[int]:
    """Exit codes of two processes, one of which waits for the other."""
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    if sys.platform == "linux":
        shared["GLOO_SOCKET_IFNAME"] = "lo"
    processes = [
        subprocess.Popen([sys.executable, "-c", WAIT, first], env={**shared, "RANK": str(rank)}) for rank in (0, 1)
    ]
    return [process.wait(120) for process in processes]


def test_a_rank_is_waited_for_longer_than_an_exchange_may_take() -> None:
    assert ranks("works") == [0, 0]


def test_a_rank_that_ends_is_not_waited_for() -> None:
    assert ranks("ends") == [3, 4]
