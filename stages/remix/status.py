"""What `mixstyle status` tells of the bank."""

from dataclasses import replace
from typing import TYPE_CHECKING

from mixstyle.cache.storage.urls import shown
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.stage_status import StageStatus, is_begun, not_opened, size_text, unnamed_told
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.stem_store.stem_cache import StemCache
    from mixstyle.stages.remix.provenance import MadeWith

NO_BANK = "the profile has no bank (remix.blocks=0)"


def remix_status(settings: Settings, cache: "StemCache | None") -> "tuple[StemCache | None, StageStatus]":
    """The bank, None where there is none that can be read, and how far it is.

    cache: the stems that are there, None where there are none to compare with.
    """
    chosen = settings.remix
    if not chosen.blocks:
        return None, StageStatus("remix", "not needed", NO_BANK)
    if not is_begun(chosen.remix_dir):
        return None, StageStatus("remix", "not started", run="mixstyle remix")
    from mixstyle.cache.stem_store.failures import count_by_kind, failures_of
    from mixstyle.stages.settings.places import open_shards, reading_settings

    try:
        bank = open_shards(settings, chosen.remix_dir)
    except MixstyleError as error:
        return None, not_opened("remix", error)
    clips = sum(len(track.clips) for track in bank.tracks)
    size = size_text(sum(shard.size for shard in bank.shards))
    shards, groups = counted(len(bank.shards), "shard", of=bank.n_shards), counted(len(bank.tracks), "group")
    done = f"{shards}, {groups} ({counted(clips, 'clip')}), {size}"
    folder, stems = bank.stems_dir, settings.separate.stems_dir
    problems = unnamed_told(bank.unnamed)
    if failures := failures_of(bank.shards, "remix"):
        kinds = ", ".join(f"{count} {kind}" for kind, count in count_by_kind(failures).items())
        problems.append(f"clips that were left out: {kinds}; see {folder / 'failures.csv'}")
    lacking = f"the stems in {shown(stems)} cannot be read" if is_begun(stems) else "there are no stems"
    changed, unknown, grows = [], lacking, False
    if cache is not None:
        changed, unknown, grows = _changes(reading_settings(settings, "remix", bank), cache, bank)
    if changed:
        problems.append(f"made with other settings: {'; '.join(changed)}")
        return bank, StageStatus("remix", "stale", done, tuple(problems), "mixstyle remix --rebuild")
    if unknown:
        problems.append(f"could not be compared with the settings: {unknown}")
    if grows:
        problems.append(f"more blocks are configured than its {bank.settings['blocks']}")
    state, run = ("done", "") if bank.complete and not grows else ("partly done", "mixstyle remix")
    return bank, StageStatus("remix", state, done, tuple(problems), run)


def _changes(settings: Settings, cache: "StemCache", bank: "StemCache") -> tuple[list[str], str, bool]:
    """Settings and inputs that differ from those of the bank; or why that cannot be told; whether it only grows."""
    from mixstyle.cache.storage.provenance import differences
    from mixstyle.stages.remix.growth import has_to_grow
    from mixstyle.stages.remix.provenance import LATER, TOLD, provenance_of

    try:
        now = provenance_of(settings, cache, _made_with_now(settings))
    except MixstyleError as error:
        return [], told(error), False
    if has_to_grow(settings.remix.remix_dir, now):
        return [], "", True
    return differences(bank.provenance, now, absent=LATER, told=TOLD), "", False


def _made_with_now(settings: Settings) -> "MadeWith":
    """The separators of the bank as they are known now."""
    from mixstyle.stages.remix.provenance import MadeWith, separation_settings, separator_pairs
    from mixstyle.stages.separate.current_separator import device_type_of, separator_now, streams_now

    chosen = separation_settings(settings)
    device = device_type_of(chosen)
    named = [(chosen.separator_config, chosen.separator_checkpoint), *separator_pairs(settings.remix)]
    several = [replace(chosen, separator_config=config, separator_checkpoint=path) for config, path in named]
    records = [record for one in several if (record := separator_now(one)) is not None]  # of mixtures: all of them
    return MadeWith(tuple(records), streams_now(chosen, records[0], device), device, chosen.precision)
