"""Encoders to hand on: one safetensors file that holds weights, sizes, descriptor statistics and a model card.

Format version 1: tensors by the encoder's names (its descriptor statistics are among them), in float32 or float16, and
`trained_on`, the numbers of the tracks it was trained on, int64; one metadata entry `mixstyle`, JSON with sorted keys:
`version`, `encoder_config`, `mel`, `descriptor_names`,
`descriptors_version`, `settings`, `step`, `epoch`, `made_from`, `best_loss` and `card` (Markdown). Nothing in it can
run code. Equal encoders and cards give equal bytes.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mixstyle.cache.models.checkpoints import LoadedEncoder, build_encoder, load_checkpoint, mel_settings, track_numbers
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION

SUFFIX = ".safetensors"
VERSION = 1
_KEY = "mixstyle"
_TRACKS = "trained_on"
_EXACT = ("descriptor_center", "descriptor_scale")
"""Kept in float32: descriptors reach hundreds of their units, and float16 has three digits."""


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Builds the encoder of a checkpoint, or of a file that `save_export` wrote.

    Raises MixstyleError where the file is neither, or was trained with other descriptors than this mixstyle has.
    """
    if Path(path).suffix == SUFFIX:
        return load_export(path, device)
    return build_encoder(Path(path), load_checkpoint(Path(path), device), device)


def save_export(path: Path, loaded: LoadedEncoder, card: str, half: bool = False) -> None:
    """Writes an encoder atomically, after reading it back. half: weights in float16, half the size."""
    content = {
        "version": VERSION,
        "encoder_config": dataclasses.asdict(loaded.encoder.config),
        "mel": mel_settings(loaded.mel),
        "descriptor_names": [descriptor.name for descriptor in DESCRIPTORS],
        "descriptors_version": DESCRIPTORS_VERSION,
        "settings": loaded.settings,
        "step": loaded.step,
        "epoch": loaded.epoch,
        "made_from": loaded.content.get("made_from", {}),
        "best_loss": loaded.content.get("best_loss"),
        "card": card,
    }
    tensors = {name: _packed(name, value, half) for name, value in loaded.encoder.state_dict().items()}
    tensors[_TRACKS] = loaded.content.get(_TRACKS, track_numbers(()))
    with atomic_write(path) as temporary:
        save_file(tensors, temporary, {_KEY: json.dumps(content, sort_keys=True)})
        load_export(temporary)


def load_export(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Builds the encoder of an exported file, in float32 and evaluation mode; its card is `content["card"]`.

    Raises MixstyleError, naming the file, where it is missing, torn, no encoder, of an unknown version, or was trained
    on other descriptors than this mixstyle computes.
    """
    path = Path(path)
    if not path.is_file():
        raise MixstyleError(f"{path}: no such file")
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except (SafetensorError, ValueError, OSError) as error:
        raise MixstyleError(f"{path}: not a whole safetensors file ({str(error)[:120]})") from error
    if not isinstance(content, dict):
        raise MixstyleError(f"{path}: a safetensors file, but not an encoder that `mixstyle export` wrote")
    if content.get("version") != VERSION:
        raise MixstyleError(
            f"{path}: version {content.get('version')!r} of the format, and this mixstyle reads {VERSION}"
        )
    content[_TRACKS] = tensors.pop(_TRACKS, track_numbers(()))
    content["encoder"] = {
        name: value.float() if value.is_floating_point() else value for name, value in tensors.items()
    }
    return build_encoder(path, content, device)


def _packed(name: str, value: torch.Tensor, half: bool) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() and name not in _EXACT else value


def model_card(loaded: LoadedEncoder, metrics: dict[str, Any] | None, words: str) -> str:
    """A model card in Markdown: what it was trained on and how, what it reached, what it is not good for.

    metrics: of `mixstyle report`, where there are any. words: the author's own.
    """
    train, separate = loaded.settings.get("train", {}), loaded.settings.get("separate", {})
    if train.get("style_effects"):
        effects = "{} to {} of all, as styles".format(*train["style_effects"])
    else:
        effects = ", ".join(train.get("aug_effects", []))
    lines = [
        "# mixstyle encoder",
        "",
        f"{train.get('encoder_dim')}-d embeddings of how music is mixed, from four stems in stereo at 44.1 kHz and "
        f"{len(DESCRIPTORS)} mixing descriptors.",
        "",
        "## Training",
        "",
        f"- {loaded.step} steps of {train.get('batch_size')} tracks, clips of {train.get('clip_duration_s')} s; "
        f"AdamW at {train.get('learning_rate')}, temperature {train.get('temperature')}, seed {train.get('seed')}",
        f"- objective {train.get('objective', 'same-song')}; effects {effects or 'as published'}; FX normalisation "
        f"{'on' if train.get('fx_normalise') else 'off'}; loudness matched: "
        f"{'yes' if train.get('loudness_match') else 'no'}",
        f"- stems {loaded.content.get('made_from', {}).get('stems', 'unknown')} from the separator "
        f"{Path(str(separate.get('separator_checkpoint', 'unknown'))).name}, split by track; "
        f"{len(loaded.content.get(_TRACKS, ()))} songs",
    ]
    if metrics:
        lines += ["", "## What it reached", "", *(f"- {name}: {value}" for name, value in sorted(metrics.items()))]
    lines += [
        "",
        "## Limits",
        "",
        "- Made for stems of the separator named above: another one's artefacts shift the embedding.",
        "- Silence, speech and single instruments were not trained on.",
    ]
    if words:
        lines += ["", words.strip()]
    return "\n".join(lines) + "\n"
