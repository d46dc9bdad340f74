"""`mixstyle separate`: music to cached stems, shard by shard.

Everything that decides what a shard holds is in the plan and the settings, so `make_shard` gives equal bytes whoever
calls it, however often, at equal device, precision, batch size and threads. A killed run loses the shard under way.
"""

import errno
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from mixstyle.cache.atomic import locked, sha256_file
from mixstyle.cache.decode_pool import DecodePool
from mixstyle.cache.fingerprint import guard
from mixstyle.cache.ledger import Failure, count_by_kind, failures_of, write_failures
from mixstyle.cache.listing import Listing, describe_change, list_tracks, with_spot_checks
from mixstyle.cache.plan import Plan, SplitSettings, load_plan, make_plan, ordered, store_plan
from mixstyle.cache.shards import VERSION as SHARD_VERSION
from mixstyle.cache.shards import ShardInfo, TrackRecord, read_shard, write_shard
from mixstyle.pipeline.device import resolve_device
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.separator import Separator
from mixstyle.stages.progress import Bar, progress, say
from mixstyle.stages.separate_plan import PlanSummary, plan
from mixstyle.stages.separate_tracks import ClipRules, decode_track, load_for, rules_of, separate_track, threads_of
from mixstyle.stages.settings import SeparateSettings, Settings

__all__ = ["PlanSummary", "SeparateSummary", "SeparationRun", "make_shard", "open_run", "plan", "separate"]

SPOT_CHECKS = 64
"""Tracks whose files' ends are compared on every run, to notice a folder that was filled anew."""


@dataclass(frozen=True)
class SeparationRun:
    """What making a shard needs. separator: None where the stems exist already."""

    settings: SeparateSettings
    plan: Plan
    separator: Separator | None
    rules: ClipRules
    fingerprint: str

    @property
    def n_shards(self) -> int:
        return self.plan.n_shards(self.settings.tracks_per_shard)


@dataclass
class SeparateSummary:
    """What a run did. Tracks, clips and bytes are of all shards, this run's and earlier ones'.

    failures_by_reason: failed tracks by the kind of their reason. clips_failed: clips that failed in tracks that did
    not. made_audio_s, wall_s, network_s: seconds of clips made in this run, how long the run took, and how much of
    that went into separating and encoding.
    """

    tracks_planned: int
    shards: int
    tracks_done: int = 0
    tracks_failed: int = 0
    clips_done: int = 0
    clips_failed: int = 0
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    shards_made: int = 0
    made_audio_s: float = 0.0
    wall_s: float = 0.0
    network_s: float = 0.0
    disk_bytes: int = 0

    @property
    def audio_s_per_s(self) -> float:
        """Seconds of clips made in a second."""
        return self.made_audio_s / self.wall_s if self.wall_s > 0 else 0.0

    @property
    def real_time_factor(self) -> float:
        """Seconds that a second of clips took."""
        return self.wall_s / self.made_audio_s if self.made_audio_s > 0 else 0.0


def separate(settings: Settings, rebuild: bool = False) -> SeparateSummary:
    """Makes the shards that are not there yet, and `failures.csv`; prints a summary.

    Raises MixstyleError for settings that do not fit what is there (unless `rebuild`), for music or a separator that
    cannot be found, when another run is writing, when the disk is full, and when no track at all can be used.
    """
    chosen = settings.separate
    threads_before = torch.get_num_threads()
    with locked(chosen.stems_dir, "mixstyle separate"):
        try:
            run = open_run(settings, rebuild)
            summary = _make_missing(run)
        except torch.OutOfMemoryError as error:
            raise MixstyleError(
                f"separate.batch_chunks={chosen.batch_chunks}: the device is out of memory; choose a smaller one"
            ) from error
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise MixstyleError(
                f"{chosen.stems_dir}: the disk is full; make room and give the same command, it goes on from there"
            ) from error
        finally:
            torch.set_num_threads(threads_before)
    ledger = _ledger(chosen.stems_dir)
    if summary.tracks_done == 0:
        raise MixstyleError(f"{chosen.data_path}: none of {summary.tracks_planned} tracks can be used; see {ledger}")
    _print(summary, ledger)
    return summary


def open_run(settings: Settings, rebuild: bool = False) -> SeparationRun:
    """Finds the music, loads the separator, and makes or loads the plan, refusing what does not fit the shards there.

    Sets torch's number of threads. Raises MixstyleError as `separate` does.
    """
    chosen = settings.separate
    device = resolve_device(chosen.device)
    threads = threads_of(chosen)
    torch.set_num_threads(threads)
    listing = list_tracks(chosen.data_path, chosen.input)
    listing = with_spot_checks(listing, ordered(listing, chosen.seed)[:SPOT_CHECKS], chosen.input)
    separator = load_for(chosen, device)
    folder = chosen.stems_dir
    plan_path = folder / "plan.jsonl.gz"
    stored = _stored_plan(plan_path, rebuild)
    change = describe_change(stored.listing, listing) if stored else "other music than in the plan"
    made_with = guard(
        folder / "settings.json",
        _settings_that_matter(chosen, listing, separator, device, threads),
        stage="separate",
        rebuild=rebuild,
        remove=[*sorted(folder.glob("stems-*")), *sorted(folder.glob(".stems-*")), plan_path, _ledger(folder)],
        notes={"listing": f"{chosen.data_path}: {change}", "tracks": ""},
    )
    if stored is None or not plan_path.exists() or stored.listing.digest != listing.digest:
        split = SplitSettings(chosen.seed, chosen.validation_fraction, chosen.test_fraction, chosen.tracks_csv)
        stored = make_plan(listing, chosen.input, split)
        store_plan(plan_path, stored)
    return SeparationRun(chosen, stored, separator, rules_of(chosen, listing.root, separator), made_with)


def make_shard(run: SeparationRun, number: int, records: Iterable[TrackRecord] | None = None) -> ShardInfo:
    """Makes shard `number` of the plan, or returns it where it is done.

    records: the shard's tracks in order, from a caller that works on several shards; else they are made here.
    """
    done = finished_shard(run, number)
    if done is not None:
        return done
    if records is not None:
        return write_shard(run.settings.stems_dir, number, records, run.fingerprint)
    with DecodePool(run.settings.workers) as pool:
        return write_shard(run.settings.stems_dir, number, track_records(run, [number], pool), run.fingerprint)


def finished_shard(run: SeparationRun, number: int) -> ShardInfo | None:
    """The shard where it is done with these settings, else None."""
    shard = read_shard(run.settings.stems_dir, number)
    return shard if shard is not None and shard.fingerprint == run.fingerprint else None


def track_records(
    run: SeparationRun, numbers: Sequence[int], pool: DecodePool, timer: list[float] | None = None
) -> Iterator[TrackRecord]:
    """The tracks of several shards, in order, decoded ahead in `pool` and separated here.

    timer: each track's seconds of separating and encoding are appended to it.
    """
    tracks = (track for number in numbers for track in run.plan.shard(number, run.settings.tracks_per_shard))
    for decoded in pool.map(lambda decoder, track: decode_track(decoder, track, run.rules), tracks):
        start = time.perf_counter()
        record = separate_track(decoded, run.separator)
        if timer is not None:
            timer.append(time.perf_counter() - start)
        yield record


@dataclass(frozen=True)
class _Tally:
    """What the summary and the ledger need of a shard, which is little: there may be thousands."""

    tracks: int
    tracks_done: int
    clips_done: int
    size: int
    failures: list[Failure]

    @classmethod
    def of(cls, shard: ShardInfo) -> "_Tally":
        done = [track for track in shard.tracks if track["status"] == "ok"]
        clips = sum(clip["status"] == "ok" for track in done for clip in track["clips"])
        return cls(len(shard.tracks), len(done), clips, shard.size, failures_of([shard]))


def _make_missing(run: SeparationRun) -> SeparateSummary:
    start, chosen = time.perf_counter(), run.settings
    found = {number: finished_shard(run, number) for number in range(run.n_shards)}
    tallies = {number: _Tally.of(shard) for number, shard in found.items() if shard is not None}
    missing = [number for number in found if number not in tallies]
    seconds: list[float] = []
    if missing:
        say(f"separate: {run.separator.description if run.separator else 'the stems are there, no separator needed'}")
        finished = sum(tally.tracks for tally in tallies.values())
        with (
            DecodePool(chosen.workers) as pool,
            progress("separate", len(run.plan.tracks), "tracks", finished) as bar,
        ):
            records = _counted(track_records(run, missing, pool, seconds), bar)
            for number in missing:
                of_shard = islice(records, len(run.plan.shard(number, chosen.tracks_per_shard)))
                tallies[number] = _Tally.of(make_shard(run, number, of_shard))
                _write_ledger(chosen.stems_dir, tallies)
    if not missing:
        _write_ledger(chosen.stems_dir, tallies)
    summary = _summed(tallies)
    summary.tracks_planned, summary.shards = len(run.plan.tracks), run.n_shards
    summary.shards_made = len(missing)
    summary.made_audio_s = sum(tallies[number].clips_done for number in missing) * chosen.clip_s
    summary.network_s = sum(seconds)
    summary.wall_s = time.perf_counter() - start
    return summary


def _summed(tallies: dict[int, _Tally]) -> SeparateSummary:
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    of_tracks = [failure for failure in failures if not failure.clip]
    return SeparateSummary(
        tracks_planned=0,
        shards=0,
        tracks_done=sum(tally.tracks_done for tally in tallies.values()),
        tracks_failed=len(of_tracks),
        clips_done=sum(tally.clips_done for tally in tallies.values()),
        clips_failed=len(failures) - len(of_tracks),
        failures_by_reason=count_by_kind(of_tracks),
        disk_bytes=sum(tally.size for tally in tallies.values()),
    )


def _counted(records: Iterable[TrackRecord], bar: Bar) -> Iterator[TrackRecord]:
    for record in records:
        bar.advance()
        yield record


def _ledger(stems_dir: Path) -> Path:
    return stems_dir / "failures.csv"


def _write_ledger(stems_dir: Path, tallies: dict[int, _Tally]) -> None:
    write_failures(_ledger(stems_dir), [failure for k in sorted(tallies) for failure in tallies[k].failures])


def _stored_plan(path: Path, rebuild: bool) -> Plan | None:
    try:
        return load_plan(path)
    except MixstyleError:
        if rebuild:
            return None
        raise


def _settings_that_matter(
    chosen: SeparateSettings, listing: Listing, separator: Separator | None, device: torch.device, threads: int
) -> dict[str, Any]:
    """All that the bytes of the shards hang on; not where they go, nor how many processes decode."""
    table = chosen.tracks_csv
    if table is not None and not table.is_file():
        raise MixstyleError(f"separate.tracks_csv={table}: no such file")
    matter: dict[str, Any] = {
        "format": SHARD_VERSION,
        "data_path": chosen.data_path,
        "input": chosen.input,
        "listing": listing.digest,
        "tracks": len(listing.sizes),
        "clip_s": chosen.clip_s,
        "clips_per_track": chosen.clips_per_track,
        "tracks_per_shard": chosen.tracks_per_shard,
        "seed": chosen.seed,
        "validation_fraction": chosen.validation_fraction,
        "test_fraction": chosen.test_fraction,
        "tracks_csv": f"{table} ({sha256_file(table)[:16]})" if table else None,
        "silence_lufs": chosen.silence_lufs,
        "separator": separator.fingerprint if separator else "stems",
    }
    if separator is not None:
        matter |= {
            "num_overlap": separator.file.num_overlap,
            "precision": chosen.precision,
            "device": device.type,
            "batch_chunks": chosen.batch_chunks,
            # a GPU's results do not hang on the CPU's threads
            "threads": threads if device.type == "cpu" else None,
        }
    return matter


def _print(summary: SeparateSummary, ledger: Path) -> None:
    told = ", ".join(f"{count} {reason}" for reason, count in summary.failures_by_reason.items())
    failed = f"{summary.tracks_failed} failed ({told}; see {ledger})" if summary.tracks_failed else "none failed"
    clips = f"{summary.clips_done} clips" + (f", {summary.clips_failed} not usable" if summary.clips_failed else "")
    say(f"separate: {summary.tracks_done} of {summary.tracks_planned} tracks done ({clips}), {failed}")
    say(f"separate: {summary.shards} shards, {summary.disk_bytes / 1e6:.1f} MB on disk")
    if summary.shards_made:
        share = summary.network_s / max(summary.wall_s, 1e-9)
        say(
            f"separate: this run made {summary.made_audio_s:.0f} s of clips in {summary.wall_s:.0f} s: "
            f"{summary.audio_s_per_s:.1f} s of audio a second, real-time factor {summary.real_time_factor:.3f}; "
            f"{share:.0%} of the time in the network"
        )
    else:
        say("separate: nothing was left to do")
