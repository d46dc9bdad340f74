"""`mixstyle separate --plan`: what a run will need, from a sample of headers and a short trial."""

import shutil
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from mixstyle.cache.music.decode_pool import DecodePool, Decoder
from mixstyle.cache.music.reader import UnreadableMusic, frames_at_44100
from mixstyle.cache.music.remote_music import on_this_machine
from mixstyle.cache.stem_store.failures import Failure, count_by_kind
from mixstyle.cache.stem_store.manifest import ListedTrack, Manifest, SplitSettings, make_manifest
from mixstyle.cache.stem_store.place import kept_shard
from mixstyle.cache.stem_store.shards import encode_clip, shard_numbers
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.executor import BatchExecutor
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.progress import say
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.separate.clips import (
    TrackRules,
    decode_track,
    files_of,
    rules_of,
)
from mixstyle.stages.separate.cutting import LEAST_CLIPS
from mixstyle.stages.separate.music import listed_music, tell_of_stems
from mixstyle.stages.separate.rule_versions import cutting_version_of, listing_version_of
from mixstyle.stages.separate.tuned_streams import choose_streams, device_of, start_streams
from mixstyle.stages.settings.places import in_working_folder, place_of_stage
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.separate import SeparateSettings

SAMPLE_TRACKS = 400
SAMPLE_S = 12.0
"""Seconds that reading headers may take: slow disks answer with a smaller sample."""
TRIAL_TRACKS = 8
TRIAL_S = 10.0
"""Seconds after which no further track is tried."""
BYTES_A_CLIP_SECOND = 230_000
"""An 8-channel 16-bit FLAC of separated music, for the case that nothing can be tried."""

NO_LIMIT = 1 << 62
"""Bytes that count as free behind a URL, which tells none."""


@dataclass(frozen=True)
class DryRun:
    """What a run will need.

    hours: of music, from `sampled` headers; unusable: tracks of the sample by the kind of their reason. clips:
    expected, in all. disk_bytes: of all shards, disk_left_bytes: of those still to be made, disk_free_bytes: where
    they go. expected_s: for what is left; None where no separator could be tried.
    """

    tracks: int
    shards: int
    shards_done: int
    splits: dict[str, int]
    grouped_by: str
    sampled: int
    unusable: dict[str, int]
    hours: float
    clips: int
    disk_bytes: int
    disk_left_bytes: int
    disk_free_bytes: int
    expected_s: float | None

    @property
    def enough_disk(self) -> bool:
        return self.disk_left_bytes <= self.disk_free_bytes


@dataclass
class _Sample:
    """Headers of some tracks. A usable track has its frames at 44.1 kHz."""

    read: int = 0
    duration_s: float = 0.0
    failures: list[Failure] = field(default_factory=list)
    usable: list[tuple[ListedTrack, int]] = field(default_factory=list)


@dataclass
class _Trial:
    """Measurements on single chunks. network_s: of one chunk; encode_s, bytes: of one second of clip."""

    network_s: float = 0.0
    encode_s: float = 0.0
    bytes: float = 0.0


def dry_run(settings: Settings) -> DryRun:
    """Prints tracks, hours, disk and time that `separate` will need, and makes nothing.

    Identical files are looked for only when the manifest is made for good: it may change on which side some tracks are.
    Raises MixstyleError for music that cannot be found.
    """
    place = place_of_stage(settings, "separate")
    place.refresh()
    settings = in_working_folder(settings, "separate", place)
    chosen = settings.separate
    device = device_of(chosen)
    listing = listed_music(settings, listing_version_of(chosen.stems_dir))
    tell_of_stems(listing, settings)
    split = SplitSettings(chosen.seed, chosen.validation_fraction, chosen.test_fraction, chosen.tracks_csv)
    manifest = make_manifest(listing, chosen.input, split, find_duplicates=False)
    separator, missing = None, ""
    try:
        separator = configured_separator(chosen, device)
    except MixstyleError as error:
        missing = told(error)
    rules = rules_of(chosen, listing.root, separator, cutting_version_of(chosen.stems_dir))
    streams = choose_streams(chosen, separator, device, measure=False)
    with DecodePool(chosen.workers) as pool, ExitStack() as stack:
        sample = _sample(manifest, rules, pool)
        executor = None
        if separator is not None:
            executor = stack.enter_context(start_streams(separator, streams))
        trial = None if missing else _try(sample, rules, executor, separator, pool)
    summary = _estimate(chosen, place, manifest, sample, rules, separator, trial)
    _print(chosen, place, summary, trial, separator, missing)
    return summary


def _sample(manifest: Manifest, rules: TrackRules, pool: DecodePool) -> _Sample:
    """Headers of the manifest's first tracks, which its order makes a random sample."""

    def header(decoder: Decoder, track: ListedTrack) -> tuple[ListedTrack, float, int, str]:
        try:
            with on_this_machine(files_of(rules, track)) as files:
                info = decoder.probe(files)
        except UnreadableMusic as error:
            return track, 0.0, 0, str(error)
        return track, info.duration_s, frames_at_44100(info), ""

    sample, stop = _Sample(), time.monotonic() + SAMPLE_S
    for track, duration_s, frames, reason in pool.map(header, manifest.tracks[:SAMPLE_TRACKS]):
        sample.read += 1
        sample.duration_s += duration_s
        if not reason and frames < LEAST_CLIPS * rules.clips.cutting.clip_frames:
            reason = "too short"
        if reason:
            sample.failures.append(Failure(track.track_id, track.path, "", "separate", reason))
        else:
            sample.usable.append((track, frames))
        if time.monotonic() > stop:
            break
    return sample


def _try(
    sample: _Sample, rules: TrackRules, executor: BatchExecutor | None, separator: Separator | None, pool: DecodePool
) -> _Trial | None:
    """Separates and encodes a chunk of a few tracks, each of another of its clips: songs begin and end quietly."""
    trials: list[_Trial] = []
    stop = time.monotonic() + TRIAL_S
    tracks = [track for track, _ in sample.usable[: 2 * TRIAL_TRACKS]]
    for decoded in pool.map(lambda decoder, track: decode_track(decoder, track, rules), tracks):
        if decoded.cut.reason:
            continue
        requests = decoded.requests
        audio = requests[len(trials) % len(requests)].clip
        network_s, stems = (0.0, audio) if not executor or not separator else time_network(executor, separator, audio)
        start = time.perf_counter()
        flac, _ = encode_clip(np.nan_to_num(stems.numpy()))
        seconds = stems.shape[-1] / SAMPLE_RATE
        trials.append(_Trial(network_s, (time.perf_counter() - start) / seconds, len(flac) / seconds))
        if len(trials) == TRIAL_TRACKS or time.monotonic() > stop:
            break
    if not trials:
        return None
    return _Trial(
        statistics.median(trial.network_s for trial in trials),
        statistics.median(trial.encode_s for trial in trials),
        statistics.mean(trial.bytes for trial in trials),
    )


def time_network(executor: BatchExecutor, separator: Separator, audio: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Seconds that the streams take for one chunk, and stems [4, 2, T] of the beginning of `audio` [2, n].

    An eighth of a chunk goes first: it warms the network up, and stands for the whole where that would take long.
    """
    chunk = separator.chunk_frames
    audio = audio[:, :chunk]
    audio = torch.nn.functional.pad(audio, (0, chunk - audio.shape[1]))

    def run(frames: int) -> tuple[float, torch.Tensor]:
        start = time.perf_counter()
        batches = [executor.submit([audio[:, :frames]] * executor.batch_chunks) for _ in range(executor.streams)]
        stems = [batch.result()[0] for batch in batches]
        return (time.perf_counter() - start) / (executor.streams * executor.batch_chunks), stems[0][0]

    network_s, short = run(chunk // 8)
    network_s *= chunk / (chunk // 8)
    return (network_s, short) if network_s * executor.streams * executor.batch_chunks > TRIAL_S else run(chunk)


def _estimate(
    chosen: SeparateSettings,
    place: Place,
    manifest: Manifest,
    sample: _Sample,
    rules: TrackRules,
    separator: Separator | None,
    trial: _Trial | None,
) -> DryRun:
    tracks, read = len(manifest.tracks), max(sample.read, 1)
    clips, chunks, clip_frames = 0, 0, rules.clips.cutting.clip_frames
    for track, frames in sample.usable:
        begun = [start for start in rules.clips.cutting.starts(frames, track.path) if start is not None]
        clips += len(begun)
        if separator is not None:
            grid = separator.grid(frames)
            # a chunk that two clips need is separated once
            chunks += len({chunk for start in begun for chunk in grid.touching(start, start + clip_frames)})
    shards = manifest.n_shards(chosen.tracks_per_shard)
    done = [shard for k in shard_numbers(place.folder) if (shard := kept_shard(place, k))]
    cached = sum(clip["status"] == "ok" for shard in done for track in shard.tracks for clip in track["clips"])
    all_clips = round(clips / read * tracks)
    if cached:
        a_clip = sum(shard.size for shard in done) / cached
    else:
        a_clip = (trial.bytes if trial else BYTES_A_CLIP_SECOND) * chosen.clip_s
    left = max(0.0, 1 - len(done) / shards)
    expected_s = None
    if trial is not None:
        in_network_s = chunks / read * tracks * trial.network_s
        expected_s = left * (in_network_s + all_clips * chosen.clip_s * trial.encode_s)
    return DryRun(
        tracks=tracks,
        shards=shards,
        shards_done=len(done),
        splits={side: sum(t.split == side for t in manifest.tracks) for side in ("train", "validation", "test")},
        grouped_by=manifest.grouped_by,
        sampled=sample.read,
        unusable=count_by_kind(sample.failures),
        hours=sample.duration_s / read * tracks / 3600,
        clips=all_clips,
        disk_bytes=round(all_clips * a_clip),
        disk_left_bytes=round(all_clips * a_clip * left),
        disk_free_bytes=free_bytes(place),
        expected_s=expected_s,
    )


def existing_folder(path: Path) -> Path:
    """The nearest folder above that is there already."""
    return next(folder for folder in [path.absolute(), *path.absolute().parents] if folder.is_dir())


def free_bytes(place: Place) -> int:
    """What there is room for; NO_LIMIT behind a URL."""
    return NO_LIMIT if place.is_remote else shutil.disk_usage(existing_folder(place.folder)).free


def free_told(free: int) -> str:
    """The same for people."""
    return "the free space there is not known" if free == NO_LIMIT else f"{free / 1e9:,.1f} GB are free"


def _print(
    chosen: SeparateSettings,
    place: Place,
    summary: DryRun,
    trial: _Trial | None,
    separator: Separator | None,
    missing: str,
) -> None:
    sides = ", ".join(f"{count:,} {side}" for side, count in summary.splits.items())
    music = f"{counted(summary.tracks, 'track')} in {shown(chosen.data_path)}"
    say(f"dry run: {music}, split by {summary.grouped_by}: {sides}")
    whole = summary.sampled == summary.tracks
    reasons = ", ".join(f"{count} {kind}" for kind, count in summary.unusable.items()) or "all usable"
    of = "all headers read" if whole else f"from {summary.sampled} headers"
    say(f"dry run: {'' if whole else 'about '}{summary.hours:,.1f} hours of music ({of}: {reasons})")
    say(
        f"dry run: {'' if whole else 'about '}{counted(summary.clips, 'clip')} of {chosen.clip_s:g} s in "
        f"{counted(summary.shards, 'shard')}, {summary.shards_done:,} of them there already"
    )
    enough = "" if summary.enough_disk else ": NOT ENOUGH"
    say(
        f"dry run: about {summary.disk_bytes / 1e9:,.2f} GB in {place.name}, of which "
        f"{summary.disk_left_bytes / 1e9:,.2f} GB are still to be written; {free_told(summary.disk_free_bytes)}{enough}"
    )
    if summary.expected_s is None or trial is None:
        say(f"dry run: no estimate of the time: {missing or 'no track of the sample could be decoded'}")
        return
    how = f"{trial.network_s:.2f} s a chunk, {separator.description}" if separator else "encoding alone was measured"
    say(f"dry run: about {duration(summary.expected_s)} for what is left ({how})")


def duration(seconds: float) -> str:
    """Seconds for people.

    >>> duration(95), duration(7300), duration(400_000)
    ('1.6 minutes', '2.0 hours', '4.6 days')
    """
    for name, length_s in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= length_s * (2 if name == "days" else 1):
            return f"{seconds / length_s:.1f} {name}"
    return f"{seconds:.0f} s"
