"""`--ray` on a real cluster of three nodes on loopback: actors, nodes and drivers are killed, the bytes are equal."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from helpers.mixed_cache import make_stems
from helpers.small_encoder import SONG_S, embedding_profile
from helpers.small_separator import hashes, profile, write_songs

from mixstyle.cache.song_index.index import SongIndex
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.features.stage import features
from mixstyle.stages.separate.stage import separate
from mixstyle.stages.settings.profile import Settings, plain
from mixstyle.stages.songs.index.stage import index

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")  # as `cluster` sets it, before Ray is loaded
ray = pytest.importorskip("ray")

SONGS, NODES = 20, 3
INDEXED = 12
LIMIT_S = 600
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
DESCRIBE_AND_INDEX = """
import json, sys
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import from_plain
from mixstyle.stages.songs.index import on_ray
from mixstyle.stages.songs.index.stage import index
given = json.loads(sys.argv[1])
settings, ray = from_plain(given["settings"]), RayOptions(given["address"])
features(settings, ray=ray)
on_ray.SONGS_AT_ONCE = 3
index(settings, settings.separate.data_path, ray=ray)
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
    # Ray's own niceness of 15 leaves actors next to nothing where other tests run: minutes to load torch
    os.environ.setdefault("RAY_worker_niceness", "0")
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


def wait_until(what: Callable[[], bool], process: "subprocess.Popen[str]", look_s: float = 0.05) -> None:
    end = time.monotonic() + LIMIT_S
    while not what():
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < end, "nothing happens"
        time.sleep(look_s)


def actors(cluster: Any) -> list[int]:
    """Process ids of the cluster's actors, by the name that Ray gives their processes."""
    nodes = ",".join(str(raylet(node)) for node in (cluster.head_node, *cluster.worker_nodes))
    found = subprocess.run(["pgrep", "-P", nodes, "-f", r"^ray::Actor"], capture_output=True, text=True).stdout.split()
    return [int(pid) for pid in found]


def raylet(node: Any) -> int:
    """Process id of what starts a node's actors."""
    return node.all_processes["raylet"][0].process.pid


def stopped_at_work(node: Any) -> int | None:
    """Process id of a node's actor that is stopped in the middle of a part; None where there is none."""
    for children in Path(f"/proc/{raylet(node)}/task").glob("*/children"):
        for pid in map(int, children.read_text().split()):
            if not is_at_work(pid):
                continue
            os.kill(pid, signal.SIGSTOP)
            if is_at_work(pid):
                return pid
            os.kill(pid, signal.SIGCONT)
    return None


def is_at_work(pid: int) -> bool:
    """Whether an actor makes a part: Ray names the process after the method that runs."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::Actor.make")
    except OSError:
        return False


def at_work(nodes: Sequence[Any], process: "subprocess.Popen[str]") -> tuple[Any, int]:
    """One of the nodes, and its actor that is stopped in the middle of a part."""
    found: list[tuple[Any, int]] = []

    def look() -> bool:
        for node in nodes:
            if (pid := stopped_at_work(node)) is not None:
                found.append((node, pid))
                return True
        return False

    wait_until(look, process, look_s=0.002)
    return found[0]


def test_bytes_are_those_of_one_process_also_where_an_actor_a_node_and_the_driver_die(
    whole: Settings, nodes: Any, tmp_path: Path
) -> None:
    settings = elsewhere(whole, tmp_path)
    first = driver(settings, nodes.address)
    wait_until(lambda: shards_there(settings) >= 1 and bool(actors(nodes)), first)
    os.kill(actors(nodes)[0], signal.SIGKILL)
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
    _, told = second.communicate(timeout=LIMIT_S)
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
        wait_until(lambda: shards_there(settings) >= 1 and bool(actors(lost)), first)
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


def test_descriptors_and_an_index_are_those_of_one_process_also_where_an_actor_and_a_node_die(
    nodes: Any, tmp_path: Path
) -> None:
    here = embedding_profile(tmp_path, write_songs(tmp_path / "music", INDEXED, seconds=SONG_S))
    (here.separate.data_path / "broken.wav").write_bytes(b"RIFF no music")
    make_stems(here.separate.stems_dir, tracks=40, clips=2)
    here, there = (made_in(here, tmp_path / name) for name in ("here", "there"))
    features(here)
    index(here, here.separate.data_path)

    running = driver(there, nodes.address, DESCRIBE_AND_INDEX)
    _, actor = at_work([nodes.head_node, *nodes.worker_nodes], running)
    os.kill(actor, signal.SIGKILL)
    wait_until(lambda: (there.embed.index_dir / "settings.json").is_file(), running)
    node, actor = at_work(list(nodes.worker_nodes), running)
    nodes.remove_node(node, allow_graceful=False)
    os.kill(actor, signal.SIGKILL)  # it is stopped, so it does not see that its node is gone
    _, told = running.communicate(timeout=LIMIT_S)
    assert running.returncode == 0, told

    store, expected = (files(settings.features.features_path) for settings in (there, here))
    assert store == expected
    rows, songs = (
        [repr(dataclasses.astuple(song)) for song in SongIndex(settings.embed.index_dir).usable]
        for settings in (there, here)
    )
    assert rows == songs
    assert len(rows) == INDEXED
    for name in ("settings.json", "nearest.faiss", "failures.csv"):
        assert (there.embed.index_dir / name).read_bytes() == (here.embed.index_dir / name).read_bytes()


def made_in(settings: Settings, folder: Path) -> Settings:
    """The settings with descriptors and an index in a folder."""
    store = dataclasses.replace(
        settings.features, features_path=folder / "features.zarr", device="cpu", workers=1, batch_clips=3
    )
    return dataclasses.replace(
        settings, features=store, embed=dataclasses.replace(settings.embed, index_dir=folder / "index")
    )


def files(folder: Path) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
