"""Kills actors, nodes and drivers of `mixstyle separate --ray` at random, and compares what comes out in the end.

    uv run python tests/torture/ray_kills.py --kills 30

A cluster of three nodes on loopback separates short songs with a small network of random weights. For each kind of
victim, runs follow one another until so many were killed; each run goes on where the one before was stopped, and one
that is whole is compared, byte by byte, with what one process made, and begun anew.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings, plain

MADE = ("stems-*.tar", "stems-*.json", "*.gz", "*.csv")
DRIVER = """
import json, sys
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import from_plain
given = json.loads(sys.argv[1])
separate(from_plain(given["settings"]), ray=RayOptions(given["address"]))
"""


class Torture:
    """One cluster, and the runs on it."""

    def __init__(self, cluster: Any, settings: Settings, expected: dict[str, bytes], seed: int) -> None:
        self.cluster, self.settings, self.expected = cluster, settings, expected
        self.random = random.Random(seed)
        self.whole = 0
        self.driver: subprocess.Popen[bytes] | None = None

    def there(self) -> int:
        """Shards that are done."""
        return len(list(self.settings.separate.stems_dir.glob("stems-*.json")))

    def running(self) -> "subprocess.Popen[bytes]":
        """The driver; started where there is none, after a comparison of what the last one made."""
        if self.driver is not None and self.driver.poll() is not None:
            if self.driver.returncode == 0:
                if hashes(self.settings.separate.stems_dir, MADE) != self.expected:
                    raise SystemExit("the bytes are not those of one process")
                self.whole += 1
                shutil.rmtree(self.settings.separate.stems_dir)
            elif self.driver.returncode != -signal.SIGKILL:
                raise SystemExit(f"the driver ended with {self.driver.returncode}")
            self.driver = None
        if self.driver is None:
            given = json.dumps({"settings": plain(self.settings), "address": self.cluster.address})
            self.driver = subprocess.Popen([sys.executable, "-c", DRIVER, given], stdout=subprocess.DEVNULL)
        return self.driver

    def kill(self, what: Callable[[], bool], kills: int) -> None:
        """Kills at random moments, so many times; then lets the run end."""
        done = 0
        while done < kills:
            self.running()
            time.sleep(self.random.uniform(0.2, 3.0))
            if self.running().poll() is None and what():
                done += 1
        before = self.whole
        while self.whole == before:
            if self.running().poll() is None:
                self.running().wait()

    def an_actor(self) -> bool:
        """Kills an actor; whether there was one."""
        found = actors()
        if found:
            os.kill(self.random.choice(found), signal.SIGKILL)
        return bool(found)

    def a_node(self) -> bool:
        """Kills a node with all that runs on it, and starts another; whether any actor was at work then."""
        if not actors():
            return False
        victim = self.random.choice(sorted(self.cluster.worker_nodes, key=lambda node: node.unique_id))
        self.cluster.remove_node(victim, allow_graceful=False)
        self.cluster.add_node(num_cpus=1)
        return True

    def the_driver(self) -> bool:
        """Kills the driver a moment after a shard more is there; whether it was still at work."""
        before, process = self.there(), self.running()
        while process.poll() is None and self.there() <= before:
            time.sleep(0.05)
        time.sleep(self.random.uniform(0.0, 1.0))
        if process.poll() is not None:
            return False
        process.kill()
        process.wait()
        return True


def actors() -> list[int]:
    """Process ids of this cluster's actors, by the name that Ray gives their processes."""
    found = subprocess.run(["pgrep", "-f", r"^ray::Actor"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found if _started_here(int(pid))]


def _started_here(pid: int) -> bool:
    """Whether a process descends from this one: there may be clusters of others."""
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


def main(
    kills: Annotated[int, typer.Option(help="Of each kind.")] = 30,
    songs: Annotated[int, typer.Option(help="To separate, two a shard.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 0,
) -> None:
    """Runs it all; prints what was killed and how many runs ended whole."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    from ray.cluster_utils import Cluster

    folder = Path(tempfile.mkdtemp(prefix="mixstyle-torture-"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        music = write_songs(folder / "music", songs)
        whole = profile(folder, music, stems_dir=str(folder / "whole"))
        separate(whole)
        expected = hashes(whole.separate.stems_dir, MADE)
        torture = Torture(cluster, profile(folder, music, stems_dir=str(folder / "stems")), expected, seed)
        for name, what in (("actors", torture.an_actor), ("nodes", torture.a_node), ("drivers", torture.the_driver)):
            begun, before = time.monotonic(), torture.whole
            torture.kill(what, kills)
            print(
                f"{kills} {name} killed in {time.monotonic() - begun:.0f} s; {torture.whole - before} runs ended, each "
                f"with the bytes of one process",
                flush=True,
            )
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    typer.run(main)
