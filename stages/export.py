"""`mixstyle export`: a trained encoder as one safetensors file, for others to load without pickle."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from mixstyle.cache.models.checkpoints import BEST
from mixstyle.cache.models.exports import SUFFIX, load_encoder, save_export
from mixstyle.cache.storage.provenance import SETTINGS, read_provenance
from mixstyle.cache.storage.urls import not_there
from mixstyle.cache.storage.writable import check_file
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.encoder import with_descriptor_share, with_part_s
from mixstyle.stages.common.chosen_encoder import check_checkpoint, checkpoint_hash, chosen_checkpoints, damage_helped
from mixstyle.stages.common.limits import CLIP_S, LEAST_CLIP_S, WEIGHT
from mixstyle.stages.common.progress import say
from mixstyle.stages.presentation.model_card import model_card
from mixstyle.stages.report.provenance import METRICS
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import report_folder, with_trained


def export(
    settings: Settings,
    output: Path,
    checkpoint: Path | None = None,
    half: bool = False,
    words: Path | None = None,
    descriptor_share: float | None = None,
    part_s: float | None = None,
) -> Path:
    """Writes the encoder of a checkpoint with its settings, statistics and model card.

    checkpoint: None takes the profile's best one, `shipped` the shipped one. words: a Markdown file that the card ends
    with. descriptor_share: as `EncoderConfig` has it, in place of what the encoder was trained with. part_s: likewise;
    0 embeds clips whole. Raises MixstyleError for files that are missing or wrong.
    """
    if descriptor_share is not None and not 0 <= descriptor_share <= WEIGHT:
        raise MixstyleError(f"--descriptor-share {descriptor_share:g}: should be 0 to {WEIGHT:g}", code="bad-option")
    if part_s and not LEAST_CLIP_S <= part_s <= CLIP_S:
        raise MixstyleError(
            f"--part-s {part_s:g}: should be 0 (clips are embedded whole) or {LEAST_CLIP_S:g} to {CLIP_S:g}",
            code="bad-option",
        )
    if output.suffix != SUFFIX:
        raise MixstyleError(f"{output}: should end in {SUFFIX}", code="bad-option")
    check_file(output)
    if checkpoint is None:
        settings = with_trained(settings, BEST)
    train = settings.train
    source = chosen_checkpoints([checkpoint] if checkpoint else [], train.checkpoint_dir, train.stems_cache_dir)[0]
    check_checkpoint(source, settings.train.checkpoint_dir)
    with damage_helped([source], settings.train.checkpoint_dir):
        loaded = load_encoder(source)
    if descriptor_share is not None:
        try:
            loaded = replace(loaded, encoder=with_descriptor_share(loaded.encoder, descriptor_share))
        except ValueError as error:
            raise MixstyleError(f"{source}: {error}", code="bad-option") from error
    if part_s is not None:
        loaded = replace(loaded, encoder=with_part_s(loaded.encoder, part_s or None))
    if words is not None and not words.is_file():
        raise not_there(words)
    try:
        own_words = words.read_text(encoding="utf-8-sig") if words is not None else ""
    except (OSError, UnicodeDecodeError) as error:
        raise MixstyleError(f"{words}: cannot be read as UTF-8 text ({error})", code="wrong-file") from error
    save_export(output, loaded, model_card(loaded, _metrics(settings, source), own_words), half)
    size = output.stat().st_size / 1e6
    say(f"export: wrote {output}: the encoder of {source} at step {loaded.step}, {size:.2f} MB")
    return output


def _metrics(settings: Settings, checkpoint: Path) -> dict[str, Any] | None:
    """What the profile's report measured of the checkpoint; None where there is no report of it."""
    kept = report_folder(settings, to_read=True)
    kept.fetch(SETTINGS, METRICS, left_out=[])
    path = kept.folder / METRICS
    if not path.is_file() or not (kept.folder / SETTINGS).is_file():
        return None
    if read_provenance(kept.folder / SETTINGS).made_from.get("checkpoint") != checkpoint_hash(checkpoint):
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise MixstyleError(f"{path}: not JSON", code="damaged-file", remedy=("report",)) from error
    return _flat(content, "")


def _flat(content: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Nested names joined by dots."""
    found: dict[str, Any] = {}
    for name, value in content.items():
        found |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found
