"""Fills a bank: a folder of clips that were mixed from cached stems, summed, and separated again.

It has the format of `mixstyle separate`'s folder (`mixstyle.cache.stem_store.shards`), so that whatever reads cached
stems reads a bank. A track of it is a group: mixes that share a chain. Threads mix ahead while the network separates
(pedalboard, numpy and torch leave the interpreter to other threads while they compute); everything else is what
`separate` does, on the same code.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from mixstyle.cache.models.separator_records import SeparatorRecord, separators_note
from mixstyle.cache.stem_store.manifest import track_id_of
from mixstyle.cache.stem_store.shards import ClipRecord, TrackRecord, all_made_with, encode_clip
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.locks import ShardLocks
from mixstyle.cache.storage.place import Place
from mixstyle.cache.storage.provenance import SETTINGS, Provenance, guard
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.separation.chunks import ClipRequest
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import remark
from mixstyle.stages.common.separators import configured_separator
from mixstyle.stages.remix.mixes import Group, donors_together, groups_digest, processed
from mixstyle.stages.remix.provenance import LATER, TOLD, MadeWith, bank_provenance
from mixstyle.stages.separate.cutting import is_silent
from mixstyle.stages.separate.lstm_kernels import lstm_kernel
from mixstyle.stages.separate.machine_kind import machine_kind, other_kind, tell_other
from mixstyle.stages.separate.provenance import MACHINE, Streams
from mixstyle.stages.separate.shard_maker import (
    RunStats,
    ShardRun,
    failure_log_path,
    fill_share,
    make_share,
)
from mixstyle.stages.separate.stage import as_mixstyle_errors
from mixstyle.stages.separate.tuned_streams import choose_streams, device_of
from mixstyle.stages.settings.places import begun_once, keep_settings
from mixstyle.stages.settings.separate import SeparateSettings

SILENCE_LUFS = -60.0
"""A content below it is left out where the stems' own settings name no other loudness."""


@dataclass(frozen=True)
class Separation:
    """Separators on one device, the first of which is that of the settings, and how chunks go through them.

    device: its type.
    """

    separators: tuple[Separator, ...]
    streams: Streams
    device: str
    precision: str

    @property
    def made_with(self) -> MadeWith:
        """What a bank's provenance tells of it."""
        records = tuple(map(SeparatorRecord.of, self.separators))
        return MadeWith(records, self.streams, self.device, self.precision)

    @property
    def notes(self) -> dict[str, str]:
        """What a bank's provenance notes beside: which separators, and on what kind of machine."""
        first = self.separators[0]
        machine = machine_kind(first.device, lstm_kernel=first.lstm_kernel)
        return {**separators_note(self.separators), MACHINE: machine}


def each_separator(chosen: SeparateSettings, more: Sequence[tuple[Path, Path]]) -> list[SeparateSettings]:
    """The settings of each separator: their own, and `more` of them (YAML, checkpoint)."""
    pairs = [(chosen.separator_config, chosen.separator_checkpoint), *more]
    return [
        replace(chosen, input="mixtures", separator_config=config, separator_checkpoint=checkpoint)
        for config, checkpoint in pairs
    ]


def open_separation(
    chosen: SeparateSettings,
    more: Sequence[tuple[Path, Path]] = (),
    *,
    measure: bool = True,
) -> Separation:
    """The separator of the settings and `more` of them (YAML, checkpoint), with streams as for `separate`.

    chosen: its stems_dir is the bank's folder. measure: as for `choose_streams`. Raises MixstyleError as
    `load_separator` does.
    """
    device = device_of(chosen)
    loaded = [configured_separator(named, device) for named in each_separator(chosen, more)]
    found = [separator for separator in loaded if separator is not None]  # all of them, of mixtures
    streams = choose_streams(chosen, found[0], device, measure=measure)
    for separator in found[1:]:
        separator.use_lstm_kernel(lstm_kernel(found[0].lstm_kernel) if found[0].lstm_kernel else None)
    return Separation(tuple(found), streams, device.type, chosen.precision)


@dataclass(frozen=True, kw_only=True)
class BankRun(ShardRun[Group]):
    """A run that fills a bank."""

    unit: ClassVar[str] = "groups"
    provenance: Provenance


def open_bank(
    place: Place,
    groups: Sequence[Group],
    cache: StemCache,
    separation: Separation,
    provenance: Provenance,
    *,
    workers: int,
    rebuild: bool = False,
    fitting_too: bool = False,
) -> BankRun:
    """What filling the place with these groups needs; refuses one that was made from anything else.

    provenance: of `bank_provenance`, with clip_s, clips_per_track, tracks_per_shard and tracks among its settings.
    fitting_too: `rebuild` throws away what fits too. Raises MixstyleError ("stale") unless `rebuild`, and
    FirstElsewhereError.
    """
    folder = place.folder
    begun = (folder / SETTINGS).exists()
    stored = guard(
        folder / SETTINGS,
        provenance,
        rebuild=rebuild,
        remove=place.outputs(("stems-", ".stems-", failure_log_path(folder).name)),
        told=TOLD,
        absent=LATER,
        vouched=partial(all_made_with, folder),
        fitting_too=fitting_too,
    )
    keep_settings(place, SETTINGS, begun)
    known = provenance.flat
    frames = round(known["clip_s"] * SAMPLE_RATE)
    first = separation.separators[0]
    machine = other_kind(stored.notes, first.device, first.lstm_kernel)
    tell_other(provenance.stage, stored.notes, machine)
    silence = float(cache.settings.get("silence_lufs", SILENCE_LUFS))
    return BankRun(
        command=provenance.stage,
        place=place,
        tracks=groups,
        tracks_per_shard=known["tracks_per_shard"],
        prepare=lambda count: Mixing(cache, frames, silence, count),
        separators=separation.separators,
        fingerprint=stored.fingerprint,
        streams=separation.streams,
        workers=workers,
        clip_s=known["clip_s"],
        machine=machine,
        provenance=provenance,
    )


def fill_bank(
    folder: Path | Place,
    groups: Sequence[Group],
    cache: StemCache,
    chosen: SeparateSettings,
    *,
    clip_s: float,
    groups_per_shard: int,
    stage: str = "remix",
    separators: Sequence[tuple[Path, Path]] = (),
    rebuild: bool = False,
    notes: Mapping[str, Any] | None = None,
    read: Callable[[], StemCache] | None = None,
) -> StemCache:
    """Makes the clips of groups that the folder does not hold yet; all of them, as cached stems.

    It goes on where an earlier run was stopped, and does nothing where the folder is whole. cache: of the donors'
    clips. chosen: names the separator, its device, precision and num_overlap, and streams and workers as for
    `separate`. separators: further ones (YAML, checkpoint), for groups that name them. clip_s: of a mix; donors hold as
    much. groups_per_shard: whole blocks. stage: the command, for messages and what they tell to run. notes: settings
    that the caller wants the folder to be known by. read: opens the filled bank, where it is not in a folder.

    Raises MixstyleError where the folder was made from something else ("stale", unless `rebuild`), where another
    process is filling it ("in-use"), and as `separate` does.
    """
    place = folder if isinstance(folder, Place) else Place(folder)
    chosen = replace(chosen, stems_dir=place.folder)
    size = {
        "clip_s": clip_s,
        "clips_per_track": max((len(group.mixes) for group in groups), default=1),
        "tracks_per_shard": groups_per_shard,
    }
    made_from = {"tracks": len(groups), "groups": groups_digest(groups)}

    def opened() -> BankRun:
        place.refresh()
        separation = open_separation(chosen, separators)
        provenance = bank_provenance(
            stage, {**(notes or {}), **size}, made_from, cache, separation.made_with, notes=separation.notes
        )
        with locks.mutex():
            return open_bank(place, groups, cache, separation, provenance, workers=chosen.workers, rebuild=rebuild)

    with as_mixstyle_errors(place.folder), ShardLocks(place.folder, f"mixstyle {stage}") as locks, place.told():
        run = begun_once(opened)

        def make(advance: Callable[[], None]) -> list[RunStats]:
            return [make_share(run, range(run.n_shards), locks, advance)]

        fill_share(run, range(run.n_shards), locks, make, lambda: announce(run))
        filled = read() if read is not None else StemCache(place.folder)
        if not filled.complete:
            raise locks.refusal()
        return filled


def announce(run: BankRun) -> None:
    """Says which separators mixes go through, and how."""
    streams = run.streams
    for separator in run.separators:
        told = f"{run.command}: {separator.description}"
        remark(told, once=told)
    first = run.separators[0]
    threads = f" of {counted(streams.threads_per_stream, 'thread')}" if first.device.type == "cpu" else ""
    told = (
        f"{run.command}: {first.precision} on {first.device}, {counted(streams.streams, 'stream')}{threads}, "
        f"batches of {streams.batch_chunks}"
    )
    remark(told, once=told)


@dataclass(frozen=True)
class MixedGroup:
    """`pipeline.ReadyTrack` of a group. stems: [4, 2, T] of slots that are not separated. failed: why a slot is left
    out."""

    group: Group
    slots: dict[int, ClipRequest]
    stems: dict[int, np.ndarray] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    @property
    def requests(self) -> list[ClipRequest]:
        return list(self.slots.values())

    @property
    def separator(self) -> int:
        return self.group.separator

    def encoded(
        self, stems: Sequence[Tensor] | None, separator: str, batch_chunks: tuple[int, ...] = ()
    ) -> TrackRecord:
        """As `pipeline.ReadyTrack.encoded`."""
        group, failed = self.group, dict(self.failed)
        found = {slot: part.numpy() for slot, part in zip(self.slots, stems or (), strict=True)} | self.stems
        track_id, records = track_id_of(group.path), []
        for slot, mix in enumerate(group.mixes):
            flac, scale = b"", 1.0
            if slot in found and np.isfinite(found[slot]).all():
                flac, scale = encode_clip(found[slot])
            elif slot in found:
                failed[slot] = "separator failed: its output holds NaN or infinite samples"
            start = mix.donors[0].start_in_song
            records.append(ClipRecord(f"{track_id}_{slot}", slot, start, scale, flac, failed.get(slot, "")))
        reason = "" if any(clip.flac for clip in records) else next(iter(failed.values()), "no mixes")
        source = {**group.record(), "separator": separator}
        return TrackRecord(track_id, group.path, group.split, tuple(records), reason, source, batch_chunks)


class Mixing:
    """`pipeline.Preparation` of groups: threads mix their clips ahead.

    silence_lufs: contents below it are left out.
    """

    def __init__(self, cache: StemCache, frames: int, silence_lufs: float, workers: int) -> None:
        self._cache, self._frames, self._silence, self._workers = cache, frames, silence_lufs, workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="mix")

    def ready(self, tracks: Iterable[tuple[int, Group]]) -> Iterator[tuple[int, MixedGroup]]:
        """Groups as they are mixed, in order."""
        waiting: deque[tuple[int, Future[MixedGroup]]] = deque()
        for number, group in tracks:
            waiting.append((number, self._threads.submit(self._mixed, group)))
            if len(waiting) >= self._workers + 1:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()

    def close(self) -> None:
        """Ends the threads; what waits is dropped."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _mixed(self, group: Group) -> MixedGroup:
        mixed = MixedGroup(group, {})
        for slot, mix in enumerate(group.mixes):
            content = donors_together(mix, self._cache, self._frames)
            if is_silent(content, self._silence):
                mixed.failed[slot] = f"silent: its content is below {self._silence:g} LUFS"
                continue
            stems = processed(content, mix)
            if not np.isfinite(stems).all():
                mixed.failed[slot] = "mixing failed: an effect gave NaN or infinite samples"
            elif mix.separated:
                audio = torch.from_numpy(np.ascontiguousarray(stems.sum(0)))
                mixed.slots[slot] = ClipRequest(self._frames, 0, self._frames, 0, audio, track=slot)
            else:
                mixed.stems[slot] = stems
        return mixed
