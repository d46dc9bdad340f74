"""`mixstyle separate`: music to cached stems, shard by shard.

Everything that decides what a shard holds is in the manifest and the settings, so `make_shard` gives equal bytes,
for any number of calls, at equal device, precision, batch size and threads of a stream. A killed run loses the
shards under way. Any number of processes, on one machine or on many, may fill one folder: each locks a shard before it
makes it, and leaves those alone that another one holds.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from mixstyle.cache.models.separator_records import SeparatorRecord, separators_note
from mixstyle.cache.music.clip_positions import CUTTING_VERSION
from mixstyle.cache.music.formats import LISTING_VERSION
from mixstyle.cache.music.listing import Listing, describe_change
from mixstyle.cache.stem_store.failures import count_by_kind
from mixstyle.cache.stem_store.manifest import (
    MANIFEST,
    ListedTrack,
    Manifest,
    SplitSettings,
    load_manifest,
    make_manifest,
    read_fma_tracks,
    store_manifest,
)
from mixstyle.cache.stem_store.shards import all_made_with
from mixstyle.cache.stem_store.stem_cache import RENAMED
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS, guard
from mixstyle.cache.storage.urls import shown
from mixstyle.cache.storage.writable import FULL, check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.common.commands import OWN_MUSIC, own_music
from mixstyle.stages.common.progress import remark, say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.common.shares import check_share
from mixstyle.stages.common.stage_status import is_begun
from mixstyle.stages.separate.clips import Decoding, rules_of
from mixstyle.stages.separate.current_separator import separator_now
from mixstyle.stages.separate.dry_run import DryRun, dry_run
from mixstyle.stages.separate.lstm_kernels import computes_bf16
from mixstyle.stages.separate.machine_kind import machine_kind, other_kind, tell_other
from mixstyle.stages.separate.music import listed_music, spot_checked, tell_of_stems
from mixstyle.stages.separate.pipeline import Waits
from mixstyle.stages.separate.provenance import MACHINE, provenance_of
from mixstyle.stages.separate.rule_versions import cutting_version_of, listing_version_of
from mixstyle.stages.separate.shard_maker import (
    RunStats,
    ShardRun,
    ShardStats,
    failure_log_path,
    fill_share,
    make_shard,
)
from mixstyle.stages.separate.share_runner import share_runner
from mixstyle.stages.separate.tuned_streams import choose_streams, device_of
from mixstyle.stages.settings.places import begun_once, in_working_folder, keep_settings, place_of_stage
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings

__all__ = ["DryRun", "SeparateSummary", "SeparationRun", "dry_run", "make_shard", "open_run", "separate"]

COMMAND = "mixstyle separate"


@dataclass(frozen=True, kw_only=True)
class SeparationRun(ShardRun[ListedTrack]):
    """A run of `separate`."""

    settings: SeparateSettings
    manifest: Manifest


@dataclass
class SeparateSummary:
    """What a run did. Tracks, clips and bytes are of all shards there are, this run's, earlier ones' and others'.

    failures_by_reason: failed tracks by the kind of their reason. clips_failed: clips that failed in tracks that did
    not. tracks_noted: done, but of files that hold less than their headers say. shards_elsewhere: not made yet, and
    left to other shares or locked by other processes. made_audio_s, wall_s, network_s: seconds of clips made in this
    run, how long the run took, and for how much of that the network was at work. busy: share of its streams' time.
    bottleneck: what was waited for longest.
    """

    tracks_planned: int
    shards: int
    tracks_done: int = 0
    tracks_failed: int = 0
    clips_done: int = 0
    clips_failed: int = 0
    failures_by_reason: dict[str, int] = field(default_factory=dict)
    shards_made: int = 0
    shards_elsewhere: int = 0
    made_audio_s: float = 0.0
    wall_s: float = 0.0
    network_s: float = 0.0
    busy: float = 0.0
    bottleneck: str = ""
    disk_bytes: int = 0
    tracks_noted: int = 0

    @property
    def times_real_time(self) -> float:
        """Seconds of clips made in a second."""
        return self.made_audio_s / self.wall_s if self.wall_s > 0 else 0.0


def separate(
    settings: Settings,
    rebuild: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
    ray: RayOptions | None = None,
) -> SeparateSummary:
    """Makes the shards that are not there yet, or share `shard_index` of `num_shards` of them; prints a summary.

    A share is every num_shards-th shard of the manifest. With `separate.devices` a worker process runs on each of them.

    rebuild: all is made again; with several shares only a folder that does not fit, since each of their processes is
    given the option and none should undo the others' work. ray: a cluster whose processes make the shards.

    Raises MixstyleError for settings that do not fit what is there (unless `rebuild`), for music or a separator that
    cannot be found, where other processes hold all that is left, when the disk is full, when a worker process died,
    and when no track at all can be used.
    """
    check_share(shard_index, num_shards)
    chosen, start = settings.separate, time.perf_counter()
    place = place_of_stage(settings, "separate")
    keep_freed_memory()
    listing = _check_inputs(settings)
    with as_mixstyle_errors(place.folder), ShardLocks(place.folder, COMMAND) as locks, place.told():
        run = open_run(settings, rebuild, locks, fitting_too=num_shards == 1, listing=listing)
        share = range(shard_index, run.n_shards, num_shards)

        make = share_runner(settings, "separate", run, share, locks, ray)
        filled = fill_share(run, share, locks, make, lambda: _announce(run, settings, begun=listing is None))
    shard_stats, run_stats = filled.shards, filled.runs
    summary = _summed(run, shard_stats, run_stats, time.perf_counter() - start)
    failure_log = failure_log_path(run.folder)
    if summary.tracks_done == 0 and len(shard_stats) == run.n_shards:
        raise MixstyleError(
            f"{shown(chosen.data_path)}: none of {summary.tracks_planned} tracks can be used; see {failure_log}",
            code="no-music",
        )
    _print(summary, run, run_stats, failure_log)
    return summary


def _check_inputs(settings: Settings) -> Listing | None:
    """The music, where nothing is begun: what is refused leaves no folder behind, nor a lock beside it.

    None where something is begun. Raises MixstyleError as `separate` does.
    """
    chosen = settings.separate
    if is_begun(chosen.stems_dir):
        return None
    check_folder(chosen.stems_dir)
    device_of(chosen)
    listing = listed_music(settings, LISTING_VERSION)
    if chosen.tracks_csv is not None:
        read_fma_tracks(chosen.tracks_csv)
    separator_now(chosen)
    tell_of_stems(listing, settings)
    return listing


def open_run(
    settings: Settings,
    rebuild: bool = False,
    locks: ShardLocks | None = None,
    *,
    fitting_too: bool = False,
    listing: Listing | None = None,
) -> SeparationRun:
    """Finds the music, loads the separator, and makes or loads the manifest. Refuses what does not fit the shards.

    locks: of a caller that shares the folder with others; it is then done behind their mutex. fitting_too: `rebuild`
    throws away what fits too. listing: the music, where it was listed before: behind a URL that takes long. Raises
    MixstyleError as `separate` does.
    """
    with ExitStack() as stack:
        if locks is not None:
            stack.enter_context(locks.mutex())
            if rebuild:
                stack.enter_context(locks.all())  # nothing is deleted while another process writes
        place = place_of_stage(settings, "separate")
        stack.enter_context(place.told())
        return begun_once(lambda: _open_run(settings, place, rebuild, fitting_too, listing))


def _open_run(
    settings: Settings, place: Place, rebuild: bool, fitting_too: bool, listed: Listing | None
) -> SeparationRun:
    place.refresh()
    notes = {OWN_MUSIC: own_music(settings)}
    settings = in_working_folder(settings, "separate", place)
    chosen = settings.separate
    device = device_of(chosen)
    version = LISTING_VERSION if rebuild else listing_version_of(chosen.stems_dir)
    listing = listed if listed and listed.version == version else listed_music(settings, version)
    listing = spot_checked(listing, chosen)
    separator = configured_separator(chosen, device)
    streams = choose_streams(chosen, separator, device)
    folder = chosen.stems_dir
    manifest_path = folder / MANIFEST
    stored = _stored_manifest(manifest_path, rebuild)
    # a folder is finished by the rule that it was begun with
    cutting_version = CUTTING_VERSION if rebuild else cutting_version_of(folder)
    change = describe_change(stored.listing, listing) if stored else "the music differs from that in the manifest"
    if separator is not None:
        notes |= {**separators_note([separator]), MACHINE: machine_kind(device, lstm_kernel=separator.lstm_kernel)}
    begun = (folder / SETTINGS).exists()
    record = SeparatorRecord.of(separator) if separator is not None else None
    made_with = guard(
        folder / SETTINGS,
        provenance_of(chosen, listing, record, device.type, streams, cutting_version, notes),
        rebuild=rebuild,
        remove=place.outputs(("stems-", ".stems-", manifest_path.name, failure_log_path(folder).name)),
        renamed=RENAMED,
        told={"listing": f"{shown(chosen.data_path)}: {change}", "tracks": ""},
        vouched=partial(all_made_with, folder),
        fitting_too=fitting_too,
    )
    keep_settings(place, SETTINGS, begun)
    fits = stored is not None and stored.listing.digest == listing.digest and stored.cutting_version == cutting_version
    if stored is None or not fits or not manifest_path.exists():
        split = SplitSettings(chosen.seed, chosen.validation_fraction, chosen.test_fraction, chosen.tracks_csv)
        stored = make_manifest(listing, chosen.input, split, cutting_version=cutting_version)
        store_manifest(manifest_path, stored)
        place.keep(manifest_path.name)
    rules = rules_of(chosen, listing.root, separator, cutting_version)
    machine = other_kind(made_with.notes, device, separator.lstm_kernel) if separator else ""
    tell_other("separate", made_with.notes, machine)
    return SeparationRun(
        command="separate",
        place=place,
        tracks=stored.tracks,
        tracks_per_shard=chosen.tracks_per_shard,
        prepare=lambda workers: Decoding(rules, workers),
        separators=(separator,) if separator else (),
        fingerprint=made_with.fingerprint,
        streams=streams,
        workers=chosen.workers,
        clip_s=chosen.clip_s,
        machine=machine,
        root=listing.root,
        settings=chosen,
        manifest=stored,
    )


def _summed(
    run: SeparationRun, shard_stats: dict[int, ShardStats], run_stats: Sequence[RunStats], wall_s: float
) -> SeparateSummary:
    failures = [failure for shard in shard_stats.values() for failure in shard.failures]
    of_tracks = [failure for failure in failures if not failure.clip]
    waits = Waits()
    for done in run_stats:
        waits += done.waits
    return SeparateSummary(
        tracks_planned=len(run.manifest.tracks),
        shards=run.n_shards,
        tracks_done=sum(shard.tracks_done for shard in shard_stats.values()),
        tracks_failed=len(of_tracks),
        clips_done=sum(shard.clips_done for shard in shard_stats.values()),
        clips_failed=len(failures) - len(of_tracks),
        failures_by_reason=count_by_kind(of_tracks),
        shards_made=sum(len(done.shards) for done in run_stats),
        shards_elsewhere=run.n_shards - len(shard_stats),
        made_audio_s=sum(done.audio_s for done in run_stats),
        wall_s=wall_s,
        network_s=max((done.active_s for done in run_stats), default=0.0),
        busy=sum(done.busy for done in run_stats) / max(len(run_stats), 1),
        bottleneck=waits.bottleneck if run_stats else "",
        disk_bytes=sum(shard.size for shard in shard_stats.values()),
        tracks_noted=sum(shard.tracks_noted for shard in shard_stats.values()),
    )


def _stored_manifest(path: Path, rebuild: bool) -> Manifest | None:
    """The manifest that is there; None where there is none, or a damaged one: it follows from music and settings."""
    try:
        return load_manifest(path)
    except MixstyleError as error:
        if not rebuild and error.code != "damaged-file":
            raise
        if not rebuild:
            remark(f"separate: {error.message.removesuffix('; delete it, then')}; it is made again")
        return None


@contextmanager
def as_mixstyle_errors(stems_dir: Path) -> Iterator[None]:
    """Raises MixstyleError where the disk or the device is full."""
    try:
        yield
    except torch.OutOfMemoryError as error:  # not of a batch: those are made smaller
        raise MixstyleError(
            "the device has too little memory for the separator; stop other programs there", code="no-memory"
        ) from error
    except OSError as error:
        if error.errno not in FULL:
            raise
        raise MixstyleError(
            f"{stems_dir}: the disk is full; free some space, then run the same command to continue",
            code="cannot-write",
        ) from error


def _announce(run: SeparationRun, settings: Settings, begun: bool) -> None:
    if begun:  # else it is told before
        tell_of_stems(run.manifest.listing, settings)
    if run.separator is None:
        remark("separate: the stems are given, no separator is needed")
        return
    chosen, streams = run.settings, run.streams
    device = ", ".join(chosen.devices) or str(run.separator.device)
    threads = f" of {counted(streams.threads_per_stream, 'thread')}" if run.separator.device.type == "cpu" else ""
    remark(f"separate: {run.separator.description}")
    remark(
        f"separate: {run.separator.precision} on {device}, {counted(streams.streams, 'stream')}{threads}, "
        f"batches of {streams.batch_chunks}"
    )
    if not begun and run.separator.precision == "fp32" and run.separator.device.type == "cpu" and computes_bf16():
        remark(
            "separate: this processor is faster in bf16. To use it: stop, set separate.precision=bf16 in the profile, "
            "and run the command with --rebuild"
        )


def _print(summary: SeparateSummary, run: SeparationRun, run_stats: Sequence[RunStats], failure_log: Path) -> None:
    reasons = ", ".join(f"{count} {reason}" for reason, count in summary.failures_by_reason.items())
    failed = (
        f"{summary.tracks_failed} failed ({reasons}; see {failure_log})" if summary.tracks_failed else "none failed"
    )
    clips = counted(summary.clips_done, "clip") + (
        f", {summary.clips_failed} not usable" if summary.clips_failed else ""
    )
    say(f"separate: {counted(summary.tracks_done, 'track', of=summary.tracks_planned)} done ({clips}), {failed}")
    if summary.tracks_noted:
        say(f"separate: files that hold less than their headers say: {summary.tracks_noted}; what they hold is used")
    say(f"separate: {counted(summary.shards, 'shard')}, {summary.disk_bytes / 1e6:.1f} MB on disk")
    if summary.shards_elsewhere:
        left = counted(summary.shards_elsewhere, "shard")
        say(f"separate: {left} left to other shares, or locked by other processes")
    if not summary.shards_made:
        say("separate: nothing was left to do")
        return
    say(
        f"separate: this run made {summary.made_audio_s:.0f} s of clips in {summary.wall_s:.0f} s, "
        f"{summary.times_real_time:.1f} x real time"
    )
    if run.streams and run_stats and summary.busy:
        smallest = min((done.smallest_batch for done in run_stats if done.smallest_batch), default=0)
        less = f"; batch size reduced to {smallest} (out of memory)" if smallest else ""
        say(
            f"separate: precision {run.settings.precision}; the network was busy {summary.busy:.0%} of the time; "
            f"bottleneck: {summary.bottleneck}{less}"
        )
