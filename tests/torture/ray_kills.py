"""Kills actors, nodes and drivers of `mixstyle separate --ray` at random, and compares what comes out in the end.

    uv run python tests/torture/ray_kills.py --folder /tmp/ray-torture --kills 30

A cluster of three nodes on loopback separates short songs with a small network of random weights. Actors, nodes and
drivers are killed in turn, each only while it holds work; runs follow one another until so many of each were killed.
Each run goes on where the one before was stopped. One that is whole is compared, byte by byte, with what one process
made, and started again. Every event has a line in `FOLDER/journal.jsonl`: broken off, the same command goes on there,
and another one, or other code, is refused.
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
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.small_separator import hashes, profile, write_songs
from torture.journal import Journal, code_hash

from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings, plain

MADE = ("stems-*.tar", "stems-*.json", "*.gz", "*.csv")
TURNS = ("actor", "node", "driver")
MORE = (0, 0, 1, 2, 4)
"""Shards that are made between two kills, at least: one of these numbers; 0 may kill what has only begun."""
LIMIT_S = 600
"""A driver that makes no shard for so long, and does not end, hangs."""
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

    def __init__(self, cluster: Any, settings: Settings, expected: dict[str, bytes], journal: Journal) -> None:
        self.cluster, self.settings, self.expected, self.journal = cluster, settings, expected, journal
        self.driver: subprocess.Popen[bytes] | None = None
        self._orphans: set[int] = set()

    def there(self) -> int:
        """Shards that are done."""
        return len(list(self.settings.separate.stems_dir.glob("stems-*.json")))

    def kill(self, victim: str, draw: random.Random) -> None:
        """Kills one actor, node or driver while it holds work, and writes it down."""
        more, before, deadline = draw.choice(MORE), self.there(), time.monotonic() + 2 * LIMIT_S
        while True:
            self._at_work()
            before = min(before, self.there())  # a run that was whole is begun again
            if self.there() < before + more:
                time.sleep(0.1)
            else:
                time.sleep(draw.uniform(0.0, 2.0))
                done, what = self.there(), self._strike(victim, draw)
                if what:
                    self.journal.add({"killed": victim, "what": what, "shards": done})
                    return
            if time.monotonic() > deadline:
                raise SystemExit(f"no {victim} could be killed in {2 * LIMIT_S} s, with {self.there()} shards there")

    def end(self) -> None:
        """Lets the run end."""
        while not self.journal.entries or "whole" not in self.journal.entries[-1]:
            self._at_work(actor=False)

    def close(self) -> None:
        """Ends a driver that is left, which would look for its cluster for a minute."""
        if self.driver is not None:
            self.driver.kill()
            self.driver.wait()

    def _at_work(self, actor: bool = True) -> None:
        """Waits until there is an actor, or until the run has ended; starts a driver where there is none.

        Raises SystemExit where a driver hangs or fails, or made other bytes than one process.
        """
        if self.driver is None:
            given = json.dumps({"settings": plain(self.settings), "address": self.cluster.address})
            self.driver = subprocess.Popen([sys.executable, "-c", DRIVER, given], stdout=subprocess.DEVNULL)
        done, deadline = self.there(), time.monotonic() + LIMIT_S
        while (status := self.driver.poll()) is None:
            if actor and self._actors():
                return
            if self.there() > done:
                done, deadline = self.there(), time.monotonic() + LIMIT_S
            if time.monotonic() > deadline:
                raise SystemExit(f"the driver made nothing for {LIMIT_S} s, with {done} shards there")
            time.sleep(0.1)
        self.driver = None
        if status != 0:
            raise SystemExit(f"the driver ended with {status}, with {self.there()} shards there")
        folder = self.settings.separate.stems_dir
        found = hashes(folder, MADE)
        differ = sorted(name for name in found | self.expected if found.get(name) != self.expected.get(name))
        left = sorted(path.name for path in folder.iterdir() if path.name.endswith(".partial"))
        self.journal.add({"whole": not differ and not left, "differ": differ, "left over": left})
        if differ or left:
            raise SystemExit(f"{folder}: differs from what one process made: {differ}; left over: {left}")
        shutil.rmtree(folder)

    def _strike(self, victim: str, draw: random.Random) -> str:
        """Kills what is at work now; what it was, empty where there was nothing of the kind."""
        driver, found = self.driver, self._actors()
        if driver is None or driver.poll() is not None or not found:
            return ""
        if victim == "actor":
            pid = draw.choice(sorted(found))
            os.kill(pid, signal.SIGKILL)
            return f"one of {len(found)}"
        if victim == "node":
            nodes = [node for node in self.cluster.worker_nodes if _raylet(node) in found.values()]
            if not nodes:
                return ""
            self.cluster.remove_node(min(nodes, key=lambda node: node.unique_id), allow_graceful=False)
            self.cluster.add_node(num_cpus=1)
            return f"one of {len(nodes)} with an actor, beside the head"
        self._orphans |= found.keys()
        driver.kill()
        driver.wait()
        self.driver = None
        return f"with {len(found)} actors"

    def _actors(self) -> dict[int, int]:
        """Process ids of this cluster's actors, by the name that Ray gives their processes, and of their raylets; those
        of a driver that was killed are about to end, and left out."""
        raylets = {_raylet(node) for node in self.cluster.list_all_nodes()}
        asked = subprocess.run(["pgrep", "-f", r"^ray::Actor"], capture_output=True, text=True)
        found = {int(pid): _parent(int(pid)) for pid in asked.stdout.split()}
        return {pid: parent for pid, parent in found.items() if parent in raylets and pid not in self._orphans}


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def _parent(pid: int) -> int:
    """The process that a process is a child of; 0 where it is gone, or a zombie."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(parent)


def told(journal: Journal) -> str:
    """Counts of what was killed, and of runs that ended."""
    killed = Counter(entry["killed"] for entry in journal.entries if "killed" in entry)
    whole = Counter(entry["whole"] for entry in journal.entries if "whole" in entry)
    lines = ", ".join(f"{killed[victim]} {victim}s" for victim in TURNS)
    return f"killed: {lines}; {whole[True]} runs ended with the bytes of one process, {whole[False]} did not"


def main(
    folder: Annotated[Path | None, typer.Option(help="To work in; broken off, the same goes on there.")] = None,
    kills: Annotated[int, typer.Option(help="Of each kind.")] = 30,
    minutes: Annotated[float, typer.Option(help="Kills nothing more after so many.")] = 1e9,
    songs: Annotated[int, typer.Option(help="To separate, two a shard.")] = 60,
    seed: Annotated[int, typer.Option(help="Of the moments and victims.")] = 0,
) -> None:
    """Prints what was killed and how many runs ended whole; ends with an error where one did not."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0"}
    # Ray's own niceness of 15 leaves actors next to nothing where other work runs: minutes to load torch
    os.environ.setdefault("RAY_worker_niceness", "0")
    from ray.cluster_utils import Cluster

    begun, folder = time.monotonic(), (folder or Path(tempfile.mkdtemp(prefix="mixstyle-torture-"))).absolute()
    journal = Journal(folder / "journal.jsonl", {"seed": str(seed), "songs": str(songs), "code": code_hash()})
    music = write_songs(folder / "music", songs)
    whole = profile(folder, music, stems_dir=str(folder / "whole"))
    separate(whole)
    settings = profile(folder, music, stems_dir=str(folder / "stems"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    torture = Torture(cluster, settings, hashes(whole.separate.stems_dir, MADE), journal)
    try:
        for _ in range(len(TURNS) - 1):
            cluster.add_node(num_cpus=1)
        done = sum("killed" in entry for entry in journal.entries)
        for number in range(done, len(TURNS) * kills):
            if time.monotonic() - begun > 60 * minutes and number % len(TURNS) == 0:
                break
            torture.kill(TURNS[number % len(TURNS)], random.Random(f"{seed} {number}"))
            print(f"{time.monotonic() - begun:.0f} s: {told(journal)}", flush=True)
        torture.end()
        print(told(journal))
    finally:
        torture.close()
        cluster.shutdown()
        print(f"what was done stands in {folder}")


if __name__ == "__main__":
    typer.run(main)
