"""`mixstyle remix --plan`: what the bank will need, from a short trial on the cached stems."""

import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mixstyle.cache.models.separator_records import stems_were_given
from mixstyle.cache.stem_store.place import kept_shard
from mixstyle.cache.stem_store.shards import encode_clip, shard_numbers
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.place import Place
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.core.text import counted
from mixstyle.pipeline.mixing.mix_grid import GridSettings, block_kind
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.progress import say
from mixstyle.stages.remix.bank import Separation, open_separation
from mixstyle.stages.remix.grid import GridGroups, separated_kinds
from mixstyle.stages.remix.mixes import Mix, donors_together, processed
from mixstyle.stages.remix.provenance import separation_settings, separator_pairs
from mixstyle.stages.remix.stage import BYTES_A_CLIP_SECOND, check_room, grid_settings, open_stems
from mixstyle.stages.separate.dry_run import duration, free_bytes, free_told, time_network
from mixstyle.stages.separate.provenance import threads_of
from mixstyle.stages.separate.tuned_streams import start_streams
from mixstyle.stages.settings.places import in_working_folder, place_of_stage
from mixstyle.stages.settings.profile import Settings

TRIAL_CLIPS = 12
TRIAL_S = 15.0
"""Seconds after which no further clip is tried."""


@dataclass(frozen=True)
class BankNeeds:
    """What a bank will need. clips_separated: those that go through each of the separators. chunks_a_clip: of each
    separator. own_groups, stems_groups: groups of own mixes, and of processed stems that are kept. chunk_s, mix_s:
    seconds that each network takes for a chunk, and one thread for mixing and encoding a clip; 0 where they could not
    be tried."""

    groups: int
    clips: int
    clips_separated: tuple[int, ...]
    chunks_a_clip: tuple[int, ...]
    disk_bytes: float
    disk_left_bytes: float
    disk_free_bytes: int
    chunk_s: tuple[float, ...] = ()
    mix_s: float = 0.0
    expected_s: float | None = None
    own_groups: int = 0
    stems_groups: int = 0


def dry_run(settings: Settings) -> BankNeeds:
    """Prints clips, disk and time that `remix` will need, and makes nothing.

    Raises MixstyleError ("cannot-write") where the disk has no room for what is still to come.
    """
    chosen = settings.remix
    if not chosen.blocks:
        say("dry run: no bank is configured (remix.blocks=0)")
        return BankNeeds(0, 0, (), (), 0.0, 0.0, free_bytes(place_of_stage(settings, "remix")))
    place = place_of_stage(settings, "remix")
    place.refresh()
    chosen_separation = separation_settings(in_working_folder(settings, "remix", place))
    separation = open_separation(chosen_separation, separator_pairs(chosen), measure=False)
    stems, missing = None, ""
    try:
        stems = open_stems(settings)
    except MixstyleError as error:
        missing = error.message
    needs = _bank_needs(settings, place, separation, stems)
    _print(settings, place, needs, separation, missing)
    if not place.is_remote:
        check_room(place.folder, needs.disk_left_bytes)
    return needs


def _bank_needs(settings: Settings, place: Place, separation: Separation, stems: StemCache | None) -> BankNeeds:
    chosen = settings.remix
    grid, frames = grid_settings(chosen), round(chosen.clip_s * SAMPLE_RATE)
    groups = chosen.blocks * chosen.chains_per_block
    clips = groups * chosen.contents
    kinds = Counter(block_kind(grid, block) for block in range(chosen.blocks))
    a_clip = BYTES_A_CLIP_SECOND * chosen.clip_s
    separators = separation.separators
    on_cpu = separators[0].device.type == "cpu"
    chunks_a_clip = tuple(len(one.grid(frames).touching(0, frames)) for one in separators)
    chunk_s, mix_s = (0.0,) * len(separators), 0.0
    expected_s = None
    if stems is not None:
        chunk_s, mix_s, a_clip = _trial(GridGroups(grid, stems), stems, separation, frames)
    own, as_stems = (kinds[kind] * chosen.chains_per_block for kind in ("own", "stems"))
    given = stems_were_given(stems.provenance) if stems is not None else settings.separate.input == "stems"
    separated = _clips_separated(settings, grid, given, len(separators))
    done = [shard for k in shard_numbers(place.folder) if (shard := kept_shard(place, k))]
    cached = sum(clip["status"] == "ok" for shard in done for track in shard.tracks for clip in track["clips"])
    if cached:
        a_clip = sum(shard.size for shard in done) / cached
    left = max(0.0, 1 - cached / clips)
    if stems is not None:
        # on a CPU, mixing and encoding share the network's cores
        cores = threads_of(separation_settings(settings))
        mixing_s = clips * mix_s / (cores if on_cpu else max(1, min(cores, chosen.workers)))
        network_s = sum(map(math.prod, zip(separated, chunks_a_clip, chunk_s, strict=True)))
        expected_s = left * (network_s + mixing_s if on_cpu else max(network_s, mixing_s))
    free = free_bytes(place)
    disk = clips * a_clip
    return BankNeeds(
        groups,
        clips,
        separated,
        chunks_a_clip,
        disk,
        left * disk,
        free,
        chunk_s,
        mix_s,
        expected_s,
        own,
        as_stems,
    )


def _clips_separated(settings: Settings, grid: GridSettings, given: bool, separators: int) -> tuple[int, ...]:
    """Clips that go through each of the separators, at which the blocks take turns. given: whether the stems were."""
    kinds = separated_kinds(given)
    blocks = Counter(b % separators for b in range(settings.remix.blocks) if block_kind(grid, b) in kinds)
    per_block = settings.remix.chains_per_block * settings.remix.contents
    return tuple(blocks[place] * per_block for place in range(separators))


def _trial(
    groups: GridGroups, stems: StemCache, separation: Separation, frames: int
) -> tuple[tuple[float, ...], float, float]:
    """Seconds a chunk takes in each network, all streams together; seconds that one thread mixes and encodes a clip;
    bytes of a clip."""
    mixes = _trial_mixes(groups)
    processed(donors_together(mixes[0], stems, frames), mixes[0])  # effects load what they need
    network: list[float] = []
    mixing: list[float] = []
    sizes: list[float] = []
    for separator in separation.separators:
        chunk_s, mix_s, clip_bytes = _trial_of(separator, separation, mixes, stems, frames)
        network.append(chunk_s)
        mixing.append(mix_s)
        sizes.append(clip_bytes)
    return tuple(network), statistics.mean(mixing), statistics.mean(sizes)


def _trial_of(
    separator: Separator, separation: Separation, mixes: Sequence[Mix], stems: StemCache, frames: int
) -> tuple[float, float, float]:
    """As `_trial`, of one of the separators."""
    network: list[float] = []
    mixing: list[float] = []
    sizes: list[int] = []
    stop = time.monotonic() + TRIAL_S / len(separation.separators)
    with start_streams(separator, separation.streams) as executor:
        for mix in mixes:
            start = time.perf_counter()
            mixed = processed(donors_together(mix, stems, frames), mix)
            mixing.append(time.perf_counter() - start)
            audio = torch.from_numpy(np.ascontiguousarray(mixed.sum(0)))
            chunk_s, separated = time_network(executor, separator, audio)
            start = time.perf_counter()
            flac, _ = encode_clip(np.nan_to_num(separated.numpy()))
            taken_s = time.perf_counter() - start
            part = frames / separated.shape[-1]
            network.append(chunk_s)
            mixing[-1] += taken_s * part
            sizes.append(round(len(flac) * part))
            if time.monotonic() > stop:
                break
    return statistics.median(network), statistics.mean(mixing), statistics.mean(sizes)


def _trial_mixes(groups: GridGroups) -> list[Mix]:
    """Mixes of chains from all over the grid."""
    places = np.linspace(0, len(groups) - 1, 4 * TRIAL_CLIPS).round().astype(int)
    chains = [group for place in places if (group := groups[int(place)]).kind == "chain"] or [groups[0]]
    return [group.mixes[i % len(group.mixes)] for i, group in enumerate(chains[:: max(1, len(chains) // TRIAL_CLIPS)])]


def _print(settings: Settings, place: Place, needs: BankNeeds, separation: Separation, missing: str) -> None:
    chosen = settings.remix
    chains = needs.groups - needs.own_groups
    kept = f", {counted(needs.stems_groups, 'chain')} of them on stems that are kept" if needs.stems_groups else ""
    say(
        f"dry run: {counted(chosen.blocks, 'block')}: {counted(chains, 'chain')} x "
        f"{counted(chosen.contents, 'content')}{kept}, {counted(needs.own_groups, 'group')} of own mixes"
    )
    chunks = " or ".join(counted(number, "chunk") for number in dict.fromkeys(needs.chunks_a_clip))
    say(
        f"dry run: {counted(needs.clips, 'clip')} of {chosen.clip_s:g} s, {sum(needs.clips_separated):,} of them "
        f"separated again, {chunks} each"
    )
    enough = "" if needs.disk_left_bytes <= needs.disk_free_bytes else ": NOT ENOUGH"
    say(
        f"dry run: about {needs.disk_bytes / 1e9:,.2f} GB in {place.name}, of which "
        f"{needs.disk_left_bytes / 1e9:,.2f} GB are still to be written; {free_told(needs.disk_free_bytes)}{enough}"
    )
    if needs.expected_s is None:
        say(f"dry run: no estimate of the time: {missing}")
        return
    networks = [
        f"{seconds:.2f} s a chunk: {one.description}"
        for seconds, one in zip(needs.chunk_s, separation.separators, strict=True)
    ]
    say(
        f"dry run: about {duration(needs.expected_s)} for what is left ({needs.mix_s:.2f} s of mixing and encoding a "
        f"clip; {'; '.join(networks)})"
    )
