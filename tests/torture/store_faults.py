"""Keeps outputs behind s3:// through a proxy that breaks requests and answers, and compares what comes out in the end.

    uv run python tests/torture/store_faults.py --runs 200
    uv run python tests/torture/store_faults.py --runs 100 --what features     # or checkpoints, or index
    uv run python tests/torture/store_faults.py --runs 200 --journal FILE      # broken off, the same goes on

A real server on loopback (SeaweedFS); each run is seeded: two workers at once, one killed in half of the runs, a third
that finishes. While they work and afterwards a reader reads through the same proxy: what it gets is right, or an error.
In the end the objects are compared, byte by byte, with what a run into a folder writes.
"""

import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

sys.path.insert(0, str(Path(__file__).parents[1]))
from helpers.checkpoint_workers import CheckpointWorkers
from helpers.descriptor_workers import DescriptorWorkers
from helpers.faulty_proxy import Faults, faulty
from helpers.index_workers import IndexWorkers
from helpers.s3_server import BUCKET, objects, reached, served
from helpers.store_workers import WAIT_S, check_objects, check_read, described, in_process, run, work, write_local
from torture.journal import Journal, code_hash

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage import remote_store


class What(StrEnum):
    """What is kept: shards of stems, descriptors, a training's checkpoints, or an index of songs."""

    STEMS = "stems"
    FEATURES = "features"
    CHECKPOINTS = "checkpoints"
    INDEX = "index"


class StemWorkers:
    """What workers and readers of stems do. root: where a folder's run goes."""

    def __init__(self, root: Path) -> None:
        self._local: StemCache = write_local(root)

    def work(self, url: str, folder: Path) -> int:
        """Makes what is not there."""
        return work(url, folder)

    def check_read(self, url: str, folder: Path) -> int:
        """Reads what is there now."""
        return check_read(url, folder, self._local)

    def check_objects(self, name: str, folder: Path) -> int:
        """Holds what is kept in the end against the folder; how many objects nothing names."""
        del folder
        return check_objects(objects(name), self._local)


WORKERS = {
    What.STEMS: StemWorkers,
    What.FEATURES: DescriptorWorkers,
    What.CHECKPOINTS: CheckpointWorkers,
    What.INDEX: IndexWorkers,
}
"""What processes do, by what is kept."""


def main(
    runs: Annotated[int, typer.Option(help="Seeded runs.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the first run; each later one has the next.")] = 0,
    share: Annotated[float, typer.Option(help="Of requests that meet a fault.")] = 0.15,
    what: Annotated[What, typer.Option(help="What is kept.")] = What.STEMS,
    journal: Annotated[Path | None, typer.Option(help="To write each run to, and to go on from.")] = None,
    minutes: Annotated[float, typer.Option(help="Begins no more runs after so many.")] = 1e9,
) -> None:
    """Prints counts, and ends with an error at the first difference."""
    remote_store.WAIT_S = WAIT_S
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        kept = Journal(journal or folder / "journal.jsonl", {"what": what, "share": str(share), "code": code_hash()})
        done = {entry["run"] for entry in kept.entries}
        workers = WORKERS[what](folder / "local")
        with served(folder / "server") as server:
            for number in sorted({*range(seed, seed + runs)} - done):
                if time.monotonic() - start > 60 * minutes:
                    break
                faults, url = Faults(number, share), f"s3://{BUCKET}/run-{number}"
                with faulty(server, faults) as proxy, reached(proxy):
                    told = one(url, folder / str(number), number, workers.work, workers.check_read)
                with reached(server):
                    unnamed = workers.check_objects(f"run-{number}", folder / f"{number}-end")
                told |= {"runs": 1, "objects that nothing names": unnamed}
                kept.add({"run": number, "told": told, "met": dict(faults.met)})
                if number % 10 == 9:
                    print(f"{time.monotonic() - start:.0f} s: {counts(kept)}", flush=True)
    print(f"equal in the end: {counts(kept)}")


def counts(journal: Journal) -> str:
    """What runs came to, and the requests by fault."""
    told, met = Counter[str](), Counter[str]()
    for entry in journal.entries:
        told += Counter(entry["told"])
        met += Counter(entry["met"])
    return f"{described(told)}; requests by fault: {described(met)}"


def one(
    url: str,
    folder: Path,
    number: int,
    work: Callable[[str, Path], object],
    check_read: Callable[[str, Path], object],
) -> dict[str, int]:
    """A run, with a reader beside it and after it."""

    def look() -> None:
        ended: list[int] = []
        signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
        place = 0
        while not ended:
            check_read(url, folder / f"reader{place}")
            place += 1

    reader = in_process(look)
    told = run(url, folder, number, work)
    os.kill(reader, signal.SIGTERM)
    if os.waitstatus_to_exitcode(os.waitpid(reader, 0)[1]) != 0:
        raise SystemExit(f"run {number}: the reader saw something that was not written")
    return told


if __name__ == "__main__":
    typer.run(main)
