"""What a training's weights were made from: settings, inputs, and the versions of the effects that it draws."""

from pathlib import Path
from typing import Any

from mixstyle.cache.models.checkpoints import MADE_WITH, checkpoints_in, newest_checkpoint
from mixstyle.cache.models.separator_records import separators_of_stems
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance
from mixstyle.pipeline.encoder.objectives.registry import grid_objectives
from mixstyle.pipeline.mixing.effects import EFFECTS, effect_versions, first_versions
from mixstyle.pipeline.mixing.versions import chain_versions
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.train import TrainSettings

REBUILD = ("train", "--rebuild")
START = "start"
"""In `made_from`: the hash of the encoder that a training started from; not there where it started from none."""
RENAMED = {"style_effects": "chain_effects"}
"""Names in what trainings stored that were others: old -> new."""
OTHER_INPUTS = {
    "stems": "the cached stems have changed since it was trained",
    "features": "the descriptors have changed since it was trained",
    START: "train.start_from names another encoder than it was started from",
}


def cannot_go_on(folder: Path) -> str:
    """What is said where a folder has checkpoints, and training can go on from none of them."""
    count = len(checkpoints_in(folder))
    files = "it" if count == 1 else f"all {count} of them"
    return f"no checkpoint in {folder} can be continued from; starting again deletes {files}"


def reads_streams(options: TrainSettings) -> bool:
    """Whether shards are read from front to back; `auto` does that where they are behind a URL."""
    return options.reader == "stream" or (options.reader == "auto" and bool(options.stems_url))


def reads_bank(options: TrainSettings) -> bool:
    """Whether the objective is one for a bank of `mixstyle remix`."""
    return options.objective in grid_objectives()


def provenance_of(options: TrainSettings, made_from: dict[str, str]) -> Provenance:
    """What the weights follow from. made_from: fingerprints of `stems` and `features`, and of what it started from."""
    chosen = shaping(options)
    if reads_streams(options):  # a stream has an order of its own
        chosen |= {"reader": "stream", "stream_buffer_tracks": options.stream_buffer_tracks}
    if reads_bank(options):  # the bank's own provenance knows what was done to its clips
        return Provenance("train", chosen, made_from=made_from)
    return Provenance(
        "train", chosen, made_from={**made_from, "effect_versions": _drawn(options, chain_versions(effect_versions()))}
    )


def is_made_with(folder: Path, fingerprint: str) -> bool:
    """Whether the checkpoint that a training goes on from says that it was made with this provenance: of a folder whose
    file that tells is lost or damaged."""
    newest, _ = newest_checkpoint(folder)
    return newest is not None and newest[1].get(MADE_WITH) == fingerprint


def separators_of(cache: StemCache, settings: Settings) -> list[dict[str, Any]]:
    """The separators of the stems that are trained on, as a checkpoint keeps them."""
    records = separators_of_stems(cache.provenance, settings.separate.separator_checkpoint.stem)
    return [record.to_json() for record in records]


def unversioned(options: TrainSettings) -> dict[str, Any]:
    """What earlier trainings did not store: versions of effects, and settings that came later."""
    later = {
        "channel_pairs": "left-right",
        "descriptor_skip": False,
        "descriptor_share": 0.0,
        "input_lufs": None,
        "part_s": None,
        "pooling": "mean",
    }
    return {**later, "effect_versions": _drawn(options, chain_versions(first_versions(), stem_loudness=1))}


def _drawn(options: TrainSettings, versions: dict[str, int]) -> dict[str, int]:
    """The versions of those effects that may be drawn, or that the head of the chain's parameters knows."""
    if options.chain_effects:
        return versions
    if options.chain_weight:
        return {name: version for name, version in versions.items() if name in EFFECTS}
    return {name: version for name, version in versions.items() if name in options.aug_effects}
