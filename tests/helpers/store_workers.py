"""Processes that keep shards in one store, as `separate` does on several machines, and what must come of it.

Each worker has a working folder of its own, so that nothing but the store is shared.
"""

import gc
import json
import os
import random
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from mixstyle.cache.stem_store.place import keep_shard, kept_shard, look_for, stems_place
from mixstyle.cache.stem_store.remote import RemoteStemCache
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, encode_clip, write_shard
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage import remote_store
from mixstyle.cache.storage.atomic import write_json
from mixstyle.cache.storage.provenance import SETTINGS, Provenance
from mixstyle.pipeline.core.errors import MixstyleError

SHARDS, PER_SHARD, CLIPS, CLIP_S = 3, 2, 2, 0.05
WAIT_S = 0.01
"""Between tries: a server on loopback is well at once."""


def provenance() -> Provenance:
    return Provenance(
        "separate",
        {"clip_s": CLIP_S, "clips_per_track": CLIPS, "tracks_per_shard": PER_SHARD, "tracks": SHARDS * PER_SHARD},
    )


def records(shard: int) -> list[TrackRecord]:
    """The tracks of a shard: noise by their number."""
    made = []
    for index in range(shard * PER_SHARD, (shard + 1) * PER_SHARD):
        clips = []
        for slot in range(CLIPS):
            noise = np.random.default_rng(10 * index + slot).uniform(-0.5, 0.5, (4, 2, round(CLIP_S * 44_100)))
            flac, scale = encode_clip(noise.astype(np.float32))
            clips.append(ClipRecord(f"{index:012x}_{slot}", slot, 3000 * slot, scale, flac))
        made.append(TrackRecord(f"{index:012x}", f"song{index}.flac", "train", tuple(clips)))
    return made


def write_local(folder: Path) -> StemCache:
    """What a run into a folder of this machine writes."""
    folder.mkdir(parents=True)
    write_json(folder / SETTINGS, provenance().to_json(), checksum=True)
    for shard in range(SHARDS):
        write_shard(folder, shard, records(shard), provenance().fingerprint)
    return StemCache(folder)


def work(url: str, folder: Path) -> int:
    """Makes what is not there, as a worker does; how many shards it made."""
    place = stems_place(Path(url), folder)
    place.refresh()
    if not (place.folder / SETTINGS).exists():
        write_json(place.folder / SETTINGS, provenance().to_json(), checksum=True)
        place.keep_first(SETTINGS)
    made = 0
    for shard in range(SHARDS):
        look_for(place, shard)
        if kept_shard(place, shard) is None:
            keep_shard(place, shard, records(shard), provenance().fingerprint)
            made += 1
    return made


def in_process(job: Callable[[], object]) -> int:
    """Does a job in a forked process; its number. It ends with 0, with 1 where it gave up, and with 2
    where it raised anything else."""
    gc.collect()  # clients that the parent is through with: thrown away by a child, they complain
    if pid := os.fork():
        return pid
    status = 1
    try:
        remote_store.WAIT_S = WAIT_S
        job()
        status = 0
    except MixstyleError as error:
        print(f"worker: {error}", flush=True)
    except BaseException:  # noqa: BLE001 (told, and counted by the parent)
        traceback.print_exc()
        status = 2
    finally:
        os._exit(status)


def run(url: str, folder: Path, seed: int, work: Callable[[str, Path], object] = work) -> dict[str, int]:
    """Two workers at once on an empty place, one of which is killed in half of the runs, and then a third that ends it.

    work: what a worker does with the URL and a folder of its own. Gives how many were killed, and how many gave up on
    the server, which leaves the same work as a kill.
    """
    rng, told = random.Random(seed), {"killed": 0, "gave up": 0}
    pids = [in_process(lambda place=folder / name: work(url, place)) for name in ("a", "b")]
    if rng.random() < 0.5:
        time.sleep(rng.uniform(0.1, 1.5))
        os.kill(pids[0], signal.SIGKILL)
    for pid in pids:
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        told["killed"] += status == -signal.SIGKILL
        told["gave up"] += status == 1
        assert status in (0, 1, -signal.SIGKILL), status
    for _ in range(5):  # the same command again, as messages say
        status = os.waitstatus_to_exitcode(os.waitpid(in_process(lambda: work(url, folder / "c")), 0)[1])
        if status == 0:
            return told
        told["gave up"] += 1
    raise AssertionError(f"{url}: not finished in five runs")


def check_read(url: str, folder: Path, expected: StemCache) -> int:
    """Reads what is there now: it is as expected, or an error says that it is not there. How many clips were read."""
    read = 0
    wanted = {clip.clip_id: expected.read_clip(clip) for track in expected.tracks for clip in track.clips}
    try:
        cache = RemoteStemCache(url, folder, 1e9)
        for track in cache.tracks:
            for clip in track.clips:
                np.testing.assert_array_equal(cache.read_clip(clip), wanted[clip.clip_id])
                read += 1
    except MixstyleError as error:
        if error.code not in ("not-found", "remote"):
            raise AssertionError(f"read as {error.code}: {error}") from error
    return read


def check_objects(objects: Mapping[str, bytes], local: StemCache) -> int:
    """Holds the objects of a finished place against a folder's files; how many nothing names."""
    folder = local.stems_dir
    named = {SETTINGS: SETTINGS}
    for shard in local.shards:
        named[f"stems-{shard.shard:06d}.json"] = f"stems-{shard.shard:06d}.json"
        named[f"stems-{shard.shard:06d}.{shard.sha256[:16]}.tar"] = shard.tar.name
    for name, file in named.items():
        assert objects[name] == (folder / file).read_bytes(), name
    for name in objects.keys() - named.keys():
        assert not name.endswith(".json"), name
    return len(objects.keys() - named.keys())


def described(met: Mapping[str, int]) -> str:
    """Counts as one line of JSON."""
    return json.dumps(dict(sorted(met.items())))
