"""`mixstyle remix`: the bank of the profile, shard by shard.

What it holds is drawn from the settings and the cached stems (`grid.py`), so that any number of processes, on one
machine or on many, make the same bytes; which of them makes a shard is settled by locks, as in `separate`.
"""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.writable import check_folder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.memory import keep_freed_memory
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_grid import GridSettings
from mixstyle.stages.cluster.ray_pool import RayOptions
from mixstyle.stages.common.progress import say
from mixstyle.stages.common.shares import check_share
from mixstyle.stages.common.stage_status import is_begun
from mixstyle.stages.remix.bank import BankRun, announce, each_separator, open_bank, open_separation
from mixstyle.stages.remix.grid import GridGroups
from mixstyle.stages.remix.growth import grow, has_to_grow
from mixstyle.stages.remix.provenance import provenance_of, separation_settings, separator_pairs
from mixstyle.stages.separate.current_separator import separator_now
from mixstyle.stages.separate.dry_run import existing_folder
from mixstyle.stages.separate.pipeline import Waits
from mixstyle.stages.separate.shard_maker import (
    Filled,
    fill_share,
    finished_shard,
)
from mixstyle.stages.separate.share_runner import share_runner
from mixstyle.stages.separate.stage import as_mixstyle_errors
from mixstyle.stages.settings.places import begun_once, in_working_folder, open_shards, place_of_stage
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remix import RemixSettings

COMMAND = "mixstyle remix"
BYTES_A_CLIP_SECOND = 280_000
"""A shard's bytes for a second of a clip, measured: more than of songs as they are, since chains bring stems to one
loudness."""


@dataclass(frozen=True)
class RemixSummary:
    """What a run did. groups, clips, clips_failed, disk_bytes: of all shards there are, those of earlier runs among
    them. shards_elsewhere: left to other shares or locked by other processes. clips_made: in this run, in wall_s
    seconds. busy: share of its streams' time that was spent in the network. bottleneck: what was waited for longest."""

    shards: int
    groups: int = 0
    clips: int = 0
    clips_failed: int = 0
    shards_made: int = 0
    shards_elsewhere: int = 0
    clips_made: float = 0.0
    wall_s: float = 0.0
    busy: float = 0.0
    bottleneck: str = ""
    disk_bytes: int = 0


def remix(
    settings: Settings,
    rebuild: bool = False,
    shard_index: int = 0,
    num_shards: int = 1,
    ray: RayOptions | None = None,
) -> RemixSummary:
    """Makes the bank's shards that are not there yet, or share `shard_index` of `num_shards` of them.

    With 0 blocks it says so and does nothing. With `remix.devices` a worker process runs on each of them. rebuild: all
    is made again; with several shares only a bank that does not fit, as in `separate`. ray: a cluster whose processes
    make the shards. Raises MixstyleError where the stems are not whole ("step-missing"), cannot fill a block ("misfit")
    or are others than the bank was mixed from ("stale", unless `rebuild`), where the disk has no room, where other
    processes hold all that is left, and when a worker process died.
    """
    check_share(shard_index, num_shards)
    chosen, start = settings.remix, time.perf_counter()
    place = place_of_stage(settings, "remix")
    folder = place.folder
    if not chosen.blocks:
        say(f"remix: no bank is configured (remix.blocks=0): {place.name} is left unchanged")
        return RemixSummary(0)
    keep_freed_memory()
    if not is_begun(chosen.remix_dir):  # what is refused leaves no folder behind, nor a lock in it
        check_folder(folder)
        GridGroups(grid_settings(chosen), open_stems(settings))
        for one in each_separator(separation_settings(settings), separator_pairs(chosen)):
            separator_now(one)
    with as_mixstyle_errors(folder), ShardLocks(folder, COMMAND) as locks, place.told():
        run = open_run(settings, locks, rebuild, fitting_too=num_shards == 1)
        share = range(shard_index, run.n_shards, num_shards)
        _check_room(run, share)

        make = share_runner(settings, "remix", run, share, locks, ray)
        filled = fill_share(run, share, locks, make, lambda: announce(run))
    summary = _summed(run, filled, time.perf_counter() - start)
    _print(summary, run)
    return summary


def open_run(settings: Settings, locks: ShardLocks, rebuild: bool = False, *, fitting_too: bool = False) -> BankRun:
    """Opens the cached stems, loads the separators, and makes sure that the folder fits. Raises as `remix` does.

    fitting_too: `rebuild` throws away what fits too.
    """
    place = place_of_stage(settings, "remix")
    with locks.mutex(), place.told():
        return begun_once(lambda: _open_run(settings, place, locks, rebuild, fitting_too))


def _open_run(settings: Settings, place: Place, locks: ShardLocks, rebuild: bool, fitting_too: bool) -> BankRun:
    place.refresh()
    cache = open_stems(settings)
    settings = in_working_folder(settings, "remix", place)
    chosen = settings.remix
    separation = open_separation(separation_settings(settings), separator_pairs(chosen))
    groups = GridGroups(grid_settings(chosen), cache, len(separation.separators))
    provenance = provenance_of(settings, cache, separation.made_with, separation.notes)
    if not rebuild:
        if has_to_grow(place.folder, provenance):
            if place.is_remote:
                raise MixstyleError(
                    f"{place.name}: has fewer blocks than remix.blocks={chosen.blocks}, and a bank behind a URL does "
                    "not grow; undo the change, or",
                    code="stale",
                    remedy=("remix", "--rebuild"),
                )
            with locks.all():  # no shard is being made of the smaller bank
                grow(place.folder, provenance)
        return open_bank(place, groups, cache, separation, provenance, workers=chosen.workers)
    with locks.all():  # nothing is deleted while another process writes
        return open_bank(
            place, groups, cache, separation, provenance, workers=chosen.workers, rebuild=True, fitting_too=fitting_too
        )


def open_stems(settings: Settings) -> StemCache:
    """The cached stems. Raises MixstyleError ("step-missing") where they are not whole: the bank follows from all."""
    cache = open_shards(settings, settings.separate.stems_dir)
    if not cache.complete:
        raise MixstyleError(
            f"{cache.name}: {len(cache.shards)} of {cache.n_shards} shards are there, and a bank needs all of "
            "them; to finish them,",
            code="step-missing",
            remedy=("separate",),
        )
    return cache


def grid_settings(chosen: RemixSettings) -> GridSettings:
    """The section as the grid's draws take it."""
    least, most = chosen.effects
    if most > len(EFFECTS):
        raise MixstyleError(
            f"remix.effects={list(chosen.effects)}: there are {len(EFFECTS)} effects", code="bad-setting"
        )
    return GridSettings(
        blocks=chosen.blocks,
        contents=chosen.contents,
        chains_per_block=chosen.chains_per_block,
        clip_frames=round(chosen.clip_s * SAMPLE_RATE),
        effects=(least, most),
        mixed_share=chosen.mixed_share,
        levels_share=chosen.levels_share,
        own_share=chosen.own_share,
        stems_share=chosen.stems_share,
        song_share=chosen.song_share,
        level_range_db=chosen.level_range_db,
        seed=chosen.seed,
    )


def _check_room(run: BankRun, share: range) -> None:
    """Raises MixstyleError where what is left of a share does not fit onto the disk."""
    left = [number for number in share if finished_shard(run, number) is None]
    contents = run.provenance.flat["clips_per_track"]
    clips = contents * sum(len(run.shard(number)) for number in left)
    if run.place.is_remote:  # one shard at a time is on this machine
        clips = min(clips, contents * run.tracks_per_shard)
    check_room(run.folder, clips * run.clip_s * BYTES_A_CLIP_SECOND)


def _size(count: float) -> str:
    """Bytes in words.

    >>> _size(12_345_678_901), _size(2_340_000)
    ('12.3 GB', '2.3 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def check_room(folder: Path, needed_bytes: float) -> None:
    """Raises MixstyleError ("cannot-write") where the disk has no room for so much more."""
    free = shutil.disk_usage(existing_folder(folder)).free
    if needed_bytes > free:
        raise MixstyleError(
            f"{folder}: about {_size(needed_bytes)} are still to be written, {_size(free)} are free; free some space, "
            "put remix.remix_dir elsewhere, or set remix.blocks lower",
            code="cannot-write",
        )


def _summed(run: BankRun, filled: Filled, wall_s: float) -> RemixSummary:
    waits = Waits()
    for done in filled.runs:
        waits += done.waits
    failed = sum(len(shard.failures) for shard in filled.shards.values())
    return RemixSummary(
        shards=run.n_shards,
        groups=sum(shard.tracks_done for shard in filled.shards.values()),
        clips=sum(shard.clips_done for shard in filled.shards.values()),
        clips_failed=failed,
        shards_made=sum(len(done.shards) for done in filled.runs),
        shards_elsewhere=run.n_shards - len(filled.shards),
        clips_made=sum(done.audio_s for done in filled.runs) / run.clip_s,
        wall_s=wall_s,
        busy=sum(done.busy for done in filled.runs) / max(len(filled.runs), 1),
        bottleneck=waits.bottleneck if filled.runs else "",
        disk_bytes=sum(shard.size for shard in filled.shards.values()),
    )


def _print(summary: RemixSummary, run: BankRun) -> None:
    failed = f", {summary.clips_failed} left out (see {run.folder / 'failures.csv'})" if summary.clips_failed else ""
    say(
        f"remix: {counted(summary.groups, 'group')} with {counted(summary.clips, 'clip')} of {run.clip_s:g} s in "
        f"{run.folder}{failed}; {counted(len(run.tracks), 'group')} in all"
    )
    say(f"remix: {counted(summary.shards, 'shard')}, {summary.disk_bytes / 1e6:.1f} MB on disk")
    if summary.shards_elsewhere:
        left = counted(summary.shards_elsewhere, "shard")
        say(f"remix: {left} left to other shares, or locked by other processes")
    if not summary.shards_made:
        say("remix: nothing was left to do")
        return
    made_s = summary.clips_made * run.clip_s
    say(
        f"remix: this run made {made_s:.0f} s of clips in {summary.wall_s:.0f} s, "
        f"{made_s / max(summary.wall_s, 1e-9):.1f} x real time; the network was busy {summary.busy:.0%} of the "
        f"time; bottleneck: {summary.bottleneck.replace('decoding', 'mixing')}"
    )
