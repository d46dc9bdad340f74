"""Making shards of stems: one at a time and idempotent, or all of a share that nobody else holds."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import ClassVar, Generic

from mixstyle.cache.music.transient_failures import is_gone, is_transient
from mixstyle.cache.stem_store.failures import Failure, failures_of, write_failures
from mixstyle.cache.stem_store.place import keep_shard, kept_shard, look_for
from mixstyle.cache.stem_store.shards import ShardInfo, TrackRecord, sidecar_path
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.executor import BatchExecutor
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.notes import note
from mixstyle.stages.common.progress import progress, remark
from mixstyle.stages.separate.pipeline import Item, Preparation, TrackPipeline, Waits
from mixstyle.stages.separate.provenance import Streams
from mixstyle.stages.separate.tuned_streams import start_streams

MOST_TRIES = 2
"""Runs that make a shard, where decoders crashed in it."""
LOG_S = 10.0
"""The failure log is written again this often at most while shards are made: it looks at all shards, of which there may
be thousands."""


@dataclass(frozen=True, kw_only=True)
class ShardRun(Generic[Item]):
    """What making the shards of a folder needs.

    command: the stage, for messages and the failure log. place: where the shards go. tracks: all of them, in order;
    tracks_per_shard of them make a shard. prepare: makes tracks ready, given the number of workers. separators: none
    where the stems exist already; all on one device. fingerprint: of the provenance. clip_s: seconds of a clip.
    machine: its kind, where that is another than the folder's. root: of the tracks' paths, where they are music.
    """

    unit: ClassVar[str] = "tracks"
    """What is counted, for the progress."""
    command: str
    place: Place
    tracks: Sequence[Item]
    tracks_per_shard: int
    prepare: Callable[[int], Preparation[Item]]
    separators: tuple[Separator, ...]
    fingerprint: str
    streams: Streams
    workers: int
    clip_s: float
    machine: str = ""
    root: Path | None = None

    @property
    def folder(self) -> Path:
        """Where settings and sidecars can be read."""
        return self.place.folder

    @property
    def separator(self) -> Separator | None:
        """The first of them."""
        return self.separators[0] if self.separators else None

    @property
    def n_shards(self) -> int:
        return -(-len(self.tracks) // self.tracks_per_shard)

    def shard(self, number: int) -> Sequence[Item]:
        """The tracks of one shard."""
        return self.tracks[number * self.tracks_per_shard : (number + 1) * self.tracks_per_shard]


@dataclass
class RunStats:
    """What one process did: shards made, seconds of clips in them, and how its time went.

    wall_s: from its first track to its last shard. active_s: of that, with at least one stream in the network. busy:
    share of the streams' time that was spent in the network. waits: of the thread that feeds it. smallest_batch: where
    memory did not suffice for more, else 0.
    """

    shards: list[int] = field(default_factory=list)
    audio_s: float = 0.0
    wall_s: float = 0.0
    active_s: float = 0.0
    busy: float = 0.0
    waits: Waits = field(default_factory=Waits)
    smallest_batch: int = 0


def make_shard(run: ShardRun[Item], number: int) -> ShardInfo:
    """Makes shard `number` of the manifest, or returns it where it is done."""
    done = finished_meanwhile(run, number)
    if done is not None:
        return done
    with ExitStack() as stack:
        executor = executor_of(run, stack)
        tracks = ((number, track) for track in run.shard(number))
        tracks_through = stack.enter_context(_pipeline_of(run, tracks, executor))
        records = (record for _, record in tracks_through)
        return _written(run, number, records)


def _written(run: ShardRun[Item], number: int, records: Iterable[TrackRecord]) -> ShardInfo:
    again = _again(number)
    is_second = (run.folder / again).exists()
    tries = MOST_TRIES if is_second else 1
    shard = keep_shard(run.place, number, records, run.fingerprint, tries, run.machine)
    if is_second:
        run.place.take_away(again)
    return shard


def _again(number: int) -> str:
    """A file that is there while a shard is made for the second time, whichever process makes it."""
    return f".stems-{number:06d}.again"


def try_again(run: ShardRun[Item], share: Iterable[int], locks: ShardLocks) -> None:
    """Has finished shards made once more with tracks that may be read now: what killed a decoder may be gone, ffmpeg
    may be installed, a file that was locked away may be readable."""
    tracks = 0
    for number in share:
        shard = finished_shard(run, number)
        failed = _readable_now(run, shard) if shard else 0
        if failed and locks.take([number]):
            run.place.mark(_again(number))
            run.place.take_away(sidecar_path(run.folder, number).name)
            locks.give_back([number])
            tracks += failed
    if tracks:
        again = counted(tracks, "track")
        remark(f"{run.command}: {again} that could not be read before, and the others of their shards, are made again")


def _readable_now(run: ShardRun[Item], shard: ShardInfo) -> int:
    """How many of a shard's tracks failed for a reason that is gone, or may be; what may be is tried so often alone."""
    may_be = shard.tries < MOST_TRIES
    return sum(
        (may_be and is_transient(track["reason"]))
        or (run.root is not None and is_gone(track["reason"], run.root / track["path"]))
        for track in shard.tracks
        if track["reason"]
    )


def finished_shard(run: ShardRun[Item], number: int) -> ShardInfo | None:
    """The shard where it is done with these settings, else None; one with a damaged sidecar is not, and made again."""
    try:
        shard = kept_shard(run.place, number)
    except MixstyleError as error:
        if error.code != "damaged-file":
            raise
        note(f"warning: {error.message}; the shard is made again")
        return None
    return shard if shard is not None and shard.fingerprint == run.fingerprint else None


def finished_meanwhile(run: ShardRun[Item], number: int) -> ShardInfo | None:
    """The same, where another process may have finished it since the last look."""
    look_for(run.place, number)
    return finished_shard(run, number)


def make_share(run: ShardRun[Item], share: Iterable[int], locks: ShardLocks, advance: Callable[[], None]) -> RunStats:
    """Makes those shards of a share that are not done and that no other process holds.

    advance: called after every track.
    """
    done, shard_stats = RunStats(), with_finished(run, {})
    with ExitStack() as stack:
        executor = executor_of(run, stack, done)
        tracks_through = stack.enter_context(_pipeline_of(run, _locked_tracks(run, share, locks), executor))
        start = time.perf_counter()
        logged = -float("inf")
        for number, items in groupby(tracks_through, key=lambda item: item[0]):
            records = _counted((record for _, record in items), advance)
            shard = _written(run, number, records)
            done.shards.append(number)
            done.audio_s += ShardStats.of(shard, run.command).clips_done * run.clip_s
            if time.perf_counter() - logged >= LOG_S:
                with locks.mutex():
                    shard_stats = with_finished(run, shard_stats)
                    write_failure_log(run, shard_stats)
                logged = time.perf_counter()
        done.wall_s = max(time.perf_counter() - start, 1e-9)
        done.waits = tracks_through.waits
    if executor is not None:
        done.active_s, done.busy = executor.active_s, executor.stream_s / (executor.streams * done.wall_s)
    return done


def executor_of(run: ShardRun[Item], stack: ExitStack, stats: RunStats | None = None) -> BatchExecutor | None:
    """The streams through the run's separator, ended with the stack; None where there is none."""
    if run.separator is None:
        return None
    device = run.separator.device

    def reduced(left: int) -> None:
        remark(f"{run.command}: batch size reduced to {left} (out of memory on {device})")
        if stats is not None:
            stats.smallest_batch = left

    return stack.enter_context(start_streams(run.separator, run.streams, reduced))


def _pipeline_of(
    run: ShardRun[Item], tracks: Iterable[tuple[int, Item]], executor: BatchExecutor | None
) -> TrackPipeline[Item]:
    return TrackPipeline(tracks, run.prepare(run.workers), executor, run.separators, run.workers)


def _locked_tracks(run: ShardRun[Item], share: Iterable[int], locks: ShardLocks) -> Iterator[tuple[int, Item]]:
    """The tracks of a share's shards, each shard locked when its first track is asked for."""
    for number in share:
        # again after locking it: another process may have finished it meanwhile
        if finished_shard(run, number) or not locks.take([number]) or finished_meanwhile(run, number):
            continue
        for track in run.shard(number):
            yield number, track


@dataclass(frozen=True)
class ShardStats:
    """What the summary and the failure log need of a shard, which is little: there may be thousands.

    tracks_noted: of those done, whose files hold less than their headers say.
    """

    tracks: int
    tracks_done: int
    clips_done: int
    size: int
    failures: list[Failure]
    tracks_noted: int = 0

    @classmethod
    def of(cls, shard: ShardInfo, command: str) -> "ShardStats":
        done = [track for track in shard.tracks if track["status"] == "ok"]
        clips = sum(clip["status"] == "ok" for track in done for clip in track["clips"])
        noted = sum("note" in track for track in done)
        return cls(len(shard.tracks), len(done), clips, shard.size, failures_of([shard], command), noted)


def with_finished(run: ShardRun[Item], shard_stats: dict[int, ShardStats]) -> dict[int, ShardStats]:
    """The shard_stats of all finished shards, given those that are known already."""
    run.place.refresh()
    for number in range(run.n_shards):
        if number not in shard_stats and (shard := finished_shard(run, number)) is not None:
            shard_stats[number] = ShardStats.of(shard, run.command)
    return shard_stats


def _counted(records: Iterable[TrackRecord], advance: Callable[[], None]) -> Iterator[TrackRecord]:
    for record in records:
        advance()
        yield record


def failure_log_path(stems_dir: Path) -> Path:
    """Where the failures are."""
    return stems_dir / "failures.csv"


def write_failure_log(run: ShardRun[Item], shard_stats: dict[int, ShardStats]) -> None:
    """Writes the failures of all finished shards, in the order of the tracks."""
    log = failure_log_path(run.folder)
    write_failures(log, [failure for k in sorted(shard_stats) for failure in shard_stats[k].failures])
    run.place.keep(log.name)


@dataclass(frozen=True)
class Filled:
    """The result of `fill_share`. shards: all that are finished, by number. runs: what each process did; none where
    nothing was left."""

    shards: dict[int, ShardStats]
    runs: list[RunStats]


def fill_share(
    run: ShardRun[Item],
    share: range,
    locks: ShardLocks,
    make: Callable[[Callable[[], None]], list[RunStats]],
    announce: Callable[[], None],
) -> Filled:
    """Makes what is left of a share, with progress, and writes the failure log.

    make: does it, given what to call after every track. announce: is called before, if anything is left. Raises
    MixstyleError ("in-use") where other processes hold all that is left.
    """
    try_again(run, share, locks)
    shard_stats = with_finished(run, {})
    left = [number for number in share if number not in shard_stats]
    runs: list[RunStats] = []
    if left:
        announce()
        tracks = sum(len(run.shard(number)) for number in share)
        there = sum(shard_stats[number].tracks for number in share if number in shard_stats)
        with progress(run.command, tracks, run.unit, there) as bar:
            runs = make(bar.advance)
        if not any(done.shards for done in runs) and any(n not in with_finished(run, shard_stats) for n in left):
            raise locks.refusal()
    with locks.mutex():
        known = -1
        while len(shard_stats := with_finished(run, shard_stats)) > known:  # other machines have no such mutex
            known = len(shard_stats)
            write_failure_log(run, shard_stats)
            if not run.place.is_remote:
                break
    return Filled(shard_stats, runs)
