"""What `mixstyle status` tells of the cached stems."""

from typing import TYPE_CHECKING

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.text import counted
from mixstyle.stages.common.commands import told
from mixstyle.stages.common.stage_status import StageStatus, is_begun, not_opened, size_text, unnamed_told
from mixstyle.stages.settings.profile import Settings

if TYPE_CHECKING:
    from mixstyle.cache.stem_store.stem_cache import StemCache


def separate_status(settings: Settings) -> "tuple[StemCache | None, StageStatus]":
    """The stems, None where there are none that can be read, and how far they are."""
    location = settings.separate.stems_dir
    if not is_begun(location):
        return None, StageStatus("separate", "not started", run="mixstyle separate")
    from mixstyle.cache.stem_store.failures import count_by_kind, failures_of
    from mixstyle.stages.settings.places import open_shards, reading_settings

    try:
        cache = open_shards(settings, location)
        settings = reading_settings(settings, "separate", cache)
    except MixstyleError as error:
        return None, not_opened("separate", error)
    folder = cache.stems_dir
    failures = failures_of(cache.shards)
    clips = sum(len(track.clips) for track in cache.tracks)
    size = sum(shard.size for shard in cache.shards)
    done = (
        f"{counted(len(cache.shards), 'shard', of=cache.n_shards)}, "
        f"{counted(len(cache.tracks), 'track', of=cache.n_tracks)} ({counted(clips, 'clip')}), {size_text(size)}"
    )
    problems = unnamed_told(cache.unnamed)
    for what, found in (
        ("tracks that failed", [failure for failure in failures if not failure.clip]),
        ("clips that failed in other tracks", [failure for failure in failures if failure.clip]),
    ):
        if found:
            kinds = ", ".join(f"{count} {kind}" for kind, count in count_by_kind(found).items())
            problems.append(f"{what}: {kinds}; see {folder / 'failures.csv'}")
    changed, unknown = _changes(settings, cache)
    if changed:
        problems.append(f"made with other settings: {'; '.join(changed)}")
        return cache, StageStatus("separate", "stale", done, tuple(problems), "mixstyle separate --rebuild")
    if unknown:
        problems.append(f"could not be compared with the settings: {unknown}")
    state, run = ("done", "") if cache.complete else ("partly done", "mixstyle separate")
    return cache, StageStatus("separate", state, done, tuple(problems), run)


def _changes(settings: Settings, cache: "StemCache") -> tuple[list[str], str]:
    """Settings that differ from those of the stems; or why that cannot be told (music that is not there, say)."""
    # only where there are stems to compare
    from mixstyle.cache.music.listing import describe_change, list_tracks
    from mixstyle.cache.stem_store.manifest import MANIFEST, load_manifest
    from mixstyle.cache.storage.provenance import differences
    from mixstyle.cache.storage.urls import shown
    from mixstyle.stages.separate.current_separator import device_type_of, separator_now, streams_now
    from mixstyle.stages.separate.music import spot_checked
    from mixstyle.stages.separate.provenance import provenance_of
    from mixstyle.stages.separate.rule_versions import cutting_version_of, listing_version_of

    chosen = settings.separate
    try:
        listing = list_tracks(chosen.data_path, chosen.input, listing_version_of(chosen.stems_dir))
        listing = spot_checked(listing, chosen)
        device, separator = device_type_of(chosen), separator_now(chosen)
        streams = streams_now(chosen, separator, device)
        cutting = cutting_version_of(chosen.stems_dir)
        now = provenance_of(chosen, listing, separator, device, streams, cutting)
        before = load_manifest(chosen.stems_dir / MANIFEST)
    except MixstyleError as error:
        return [], told(error)
    change = describe_change(before.listing, listing) if before else "the music differs from that in the manifest"
    named = {"listing": f"{shown(chosen.data_path)}: {change}", "tracks": ""}
    return differences(cache.provenance, now, told=named), ""
