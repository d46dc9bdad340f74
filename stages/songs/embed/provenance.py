"""What the rows of an index follow from, and how messages tell of one that was made from other files.

Without torch: what reads an index only looks whether it fits.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixstyle.cache.models.model_facts import ModelFiles
from mixstyle.cache.storage.provenance import Provenance, read_provenance
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.table import DESCRIPTORS_VERSION
from mixstyle.pipeline.encoder.versions import SPECTROGRAMS_VERSION
from mixstyle.pipeline.separation.versions import INFERENCE_VERSION
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.separate.rule_versions import SongRules
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file
from mixstyle.stages.settings.separate import SeparateSettings

INPUTS = {"encoder": "the encoder has changed", "separator": "the separator has changed"}
"""What the index's rows follow from, and what is told in place of two hashes."""


def embedding_fingerprint(
    encoder: str, separator: str, options: SeparateSettings, rules: SongRules
) -> dict[str, str | int | float]:
    """What embeddings and songs' descriptors follow from: those of equal fingerprints may be compared. encoder: the
    digest of its weights. separator: its fingerprint."""
    cut = {name: getattr(options, name) for name in ("clip_s", "clips_per_track", "seed", "silence_lufs")}
    versions = {"cutting_version": rules.cutting, "song_values_version": rules.values}
    cut |= {name: version for name, version in versions.items() if version > 1}
    return {"encoder": encoder, "separator": separator, **cut}


def index_provenance(fingerprint: Mapping[str, Any], root: Path) -> Provenance:
    """What an index's rows follow from, whichever songs they are of. fingerprint: of their embeddings. root: the music
    folder."""
    made_from = {name: fingerprint[name] for name in INPUTS}
    versions = {"descriptors_version": DESCRIPTORS_VERSION}
    versions |= {name: fingerprint[name] for name in ("cutting_version", "song_values_version") if name in fingerprint}
    cut = {name: value for name, value in fingerprint.items() if name not in made_from | versions}
    return Provenance("index", cut, versions, {**made_from, "music": root.as_posix()}, section="separate")


def read_index(settings_path: Path) -> tuple[Provenance, Path]:
    """What an index stored, and its music folder. Raises MixstyleError for a file that does not tell them."""
    stored = read_provenance(settings_path)
    if "music" not in stored.flat:
        raise MixstyleError(f"{settings_path}: names no music folder", code="damaged-file")
    return stored, Path(str(stored.flat["music"]))


def embedding_models(settings: Settings) -> ModelFiles | None:
    """The files of the encoder and the separator, whose `facts` are `encoder` and `separator`, the two hashes of
    `embedding_fingerprint`; None where one is missing, or nothing is to be separated."""
    chosen = settings.separate
    if chosen.input == "stems":
        return None
    try:
        encoder = encoder_file(settings)
    except MixstyleError:
        return None
    files = (encoder, shipped(chosen.separator_config), shipped(chosen.separator_checkpoint))
    versions = {
        "descriptors_version": DESCRIPTORS_VERSION,
        "inference_version": INFERENCE_VERSION,
        "spectrograms_version": SPECTROGRAMS_VERSION,
    }  # by which a model may be refused, or have another fingerprint
    return ModelFiles.of("embedding", files, num_overlap=chosen.num_overlap, **versions)


def keep_models(models: ModelFiles | None, fingerprint: Mapping[str, Any]) -> None:
    """Keeps the two hashes for the next look. models: as they were before they were loaded."""
    if models is not None:
        models.keep({name: fingerprint[name] for name in INPUTS})
