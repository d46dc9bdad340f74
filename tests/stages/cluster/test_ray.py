"""`--ray` on a real cluster of three nodes on loopback: actors, nodes and drivers are killed, the bytes are equal."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings, plain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # as `cluster` sets it, before Ray is loaded
ray = pytest.importorskip("ray")

SONGS, NODES = 20, 3
MADE = ("stems-*.tar", "stems-*.json", "*.gz", "*.csv")
DRIVER = """
import json, sys
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import from_plain
given = json.loads(sys.argv[1])
separate(from_plain(given["settings"]), ray=RayOptions(given["address"]))
"""
LOST_HEAD = """
import json, sys
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cluster import ray_pool
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import from_plain
given = json.loads(sys.argv[1])
ray_pool.HEAD_S = 4.0
try:
    separate(from_plain(given["settings"]), ray=ray_pool.RayOptions(given["address"]))
except MixstyleError as error:
    sys.exit(f"ended by {error.code}")
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("one process")
    settings = profile(folder, write_songs(folder / "music", SONGS))
    separate(settings)
    return settings


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A cluster of three nodes of one CPU each; the first is its head."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            made.add_node(num_cpus=1)
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def elsewhere(whole: Settings, folder: Path) -> Settings:
    return profile(whole.separate.data_path.parent, whole.separate.data_path, stems_dir=str(folder / "stems"))


def driver(settings: Settings, address: str, program: str = DRIVER) -> "subprocess.Popen[str]":
    given = json.dumps({"settings": plain(settings), "address": address})
    return subprocess.Popen([sys.executable, "-c", program, given], stderr=subprocess.PIPE, text=True)


def shards_there(settings: Settings) -> int:
    return len(list(settings.separate.stems_dir.glob("stems-*.json")))


def wait_until(what: Callable[[], bool], process: "subprocess.Popen[str]", limit_s: float = 600.0) -> None:
    end = time.monotonic() + limit_s
    while not what():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def actors() -> list[int]:
    """Process ids of actors, by the name that Ray gives their processes."""
    found = subprocess.run(["pgrep", "-f", r"^ray::Actor"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def test_bytes_are_those_of_one_process_also_where_an_actor_a_node_and_the_driver_die(
    whole: Settings, nodes: Any, tmp_path: Path
) -> None:
    settings = elsewhere(whole, tmp_path)
    first = driver(settings, nodes.address)
    wait_until(lambda: shards_there(settings) >= 1 and bool(actors()), first)
    os.kill(actors()[0], signal.SIGKILL)
    there = shards_there(settings)
    wait_until(lambda: shards_there(settings) >= there + 2, first)
    nodes.remove_node(next(iter(nodes.worker_nodes)), allow_graceful=False)
    there = shards_there(settings)
    wait_until(lambda: shards_there(settings) >= there + 1, first)
    first.kill()
    first.wait()
    there = shards_there(settings)
    assert there < SONGS // 2, "it was to be killed before it was done"
    nodes.add_node(num_cpus=1)
    second = driver(settings, nodes.address)
    _, told = second.communicate(timeout=600)
    assert second.returncode == 0, told
    assert hashes(settings.separate.stems_dir, MADE) == hashes(whole.separate.stems_dir, MADE)
    assert not list(settings.separate.stems_dir.glob(".*.partial"))


def test_a_run_on_ray_makes_what_a_run_by_hand_left(whole: Settings, nodes: Any, tmp_path: Path) -> None:
    settings = elsewhere(whole, tmp_path)
    separate(settings, shard_index=1, num_shards=3)
    by_hand = shards_there(settings)
    summary = separate(settings, ray=RayOptions(nodes.address))
    assert (by_hand, summary.shards_made) == (SONGS // 2 // 3, SONGS // 2 - SONGS // 2 // 3)
    assert summary.shards_elsewhere == 0
    assert hashes(settings.separate.stems_dir, MADE) == hashes(whole.separate.stems_dir, MADE)
    assert dataclasses.replace(summary, wall_s=0.0).tracks_done == SONGS


def test_a_head_that_dies_ends_the_command_and_the_same_goes_on_on_another_cluster(
    whole: Settings, nodes: Any, tmp_path: Path
) -> None:
    from ray.cluster_utils import Cluster

    settings = elsewhere(whole, tmp_path)
    lost = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        first = driver(settings, str(lost.address), LOST_HEAD)
        wait_until(lambda: shards_there(settings) >= 1 and bool(actors()), first)
        head: Any = lost.head_node
        head.all_processes["gcs_server"][0].process.kill()
        _, told = first.communicate(timeout=55)  # Ray itself ends it after a minute, with a status of its own
        assert (first.returncode, told.splitlines()[-1]) == (1, "ended by worker-died")
    finally:
        lost.shutdown()
    assert 1 <= shards_there(settings) < SONGS // 2, "it was to be lost before it was done"
    separate(settings, ray=RayOptions(nodes.address))
    assert hashes(settings.separate.stems_dir, MADE) == hashes(whole.separate.stems_dir, MADE)
    assert not list(settings.separate.stems_dir.glob(".*.partial"))
