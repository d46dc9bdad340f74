"""What a bank follows from, as it is in its `settings.json`. Without torch: `status` only compares it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mixstyle.cache.models.separator_records import SeparatorRecord, stems_were_given
from mixstyle.cache.stem_store.shards import VERSION as SHARD_VERSION
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.provenance import Provenance
from mixstyle.pipeline.mixing.effects import effect_versions
from mixstyle.pipeline.mixing.versions import DRAW_VERSION, chain_versions
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.separate.provenance import Streams
from mixstyle.stages.settings.base import shaping
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remix import RemixSettings
from mixstyle.stages.settings.separate import SeparateSettings

LATER = {"song_share": 0.0, "stems_share": 0.0}
"""What settings that came later count as, in banks that were begun before."""
TOLD = {
    "stems": "the cached stems have changed since it was mixed",
    "own_mixes": "songs without a chain are separated now, as their stems were given",
}
"""How changes are told that two values do not tell."""


@dataclass(frozen=True)
class MadeWith:
    """Separators, the first of which is that of the settings, and how chunks go through them. device: its type."""

    separators: tuple[SeparatorRecord, ...]
    streams: Streams
    device: str
    precision: str


def separation_settings(settings: Settings) -> SeparateSettings:
    """The separator of `separate`, run as the section `remix` says."""
    chosen = settings.remix
    return replace(
        settings.separate,
        input="mixtures",
        stems_dir=chosen.remix_dir,
        num_overlap=chosen.num_overlap or settings.separate.num_overlap,
        device=chosen.device,
        devices=chosen.devices,
        precision=chosen.precision,
        batch_chunks=chosen.batch_chunks,
        streams=chosen.streams,
        threads=chosen.threads,
        workers=chosen.workers,
    )


def separator_pairs(chosen: RemixSettings) -> list[tuple[Path, Path]]:
    """The further separators: YAML and checkpoint of each."""
    return [(config, checkpoint) for config, checkpoint in chosen.separators]


def provenance_of(
    settings: Settings, cache: StemCache, made_with: MadeWith, notes: Mapping[str, str] | None = None
) -> Provenance:
    """All that the bytes of the profile's bank follow from."""
    chosen = settings.remix
    shape: dict[str, Any] = {
        "clips_per_track": chosen.contents,
        "tracks_per_shard": chosen.chains_per_block * chosen.blocks_per_shard,
        "tracks": chosen.blocks * chosen.chains_per_block,
    }
    if stems_were_given(cache.provenance) and chosen.own_share > 0:
        shape["own_mixes"] = "separated"
    versions = {"draw_version": DRAW_VERSION}
    return bank_provenance("remix", {**shaping(chosen), **shape}, {}, cache, made_with, versions, notes)


def bank_provenance(
    stage: str,
    settings: Mapping[str, Any],
    made_from: Mapping[str, Any],
    cache: StemCache,
    made_with: MadeWith,
    versions: Mapping[str, int] | None = None,
    notes: Mapping[str, str] | None = None,
) -> Provenance:
    """All that a bank's bytes follow from. settings, made_from, versions: what is told besides the stems, the effects,
    the separators and how chunks go through them."""
    streams = made_with.streams
    separators = [separator.fingerprint for separator in made_with.separators]
    return Provenance(
        stage,
        {
            **settings,
            "precision": made_with.precision,
            "num_overlap": made_with.separators[0].num_overlap,
            "device": made_with.device,
            "batch_chunks": streams.batch_chunks,
            # a GPU's results do not depend on the CPU's threads
            "threads_per_stream": streams.threads_per_stream if made_with.device == "cpu" else None,
            **streams.kernel_setting,
        },
        {"format": SHARD_VERSION, "inference_version": INFERENCE_VERSION, **(versions or {})},
        {
            **made_from,
            "stems": cache.fingerprint,
            "separator": separators[0],
            "separators": separators,
            "effect_versions": chain_versions(effect_versions()),
        },
        notes or {},
    )
