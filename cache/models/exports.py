"""Encoders to hand on: one safetensors file that holds weights, sizes, descriptor statistics and a model card.

Format version 1: tensors by the encoder's names (its descriptor statistics are among them), in float32 or float16, and
`trained_on`, the numbers of the tracks it was trained on, int64; one metadata entry `mixstyle`, JSON with sorted keys:
`version`, `encoder_config`, `mel`, `descriptor_names`,
`descriptors_version`, `settings`, `step`, `epoch`, `made_from`, `best_loss`, `card` (Markdown) and, since they are
recorded, `separators` (`mixstyle.cache.models.separator_records`), `spectrograms_version` (1 where it is not stored)
and `sha256` (of all tensors and of the other
entries), which is checked when the file is read. Nothing in it can run code. Equal encoders and cards give equal bytes.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from mixstyle.cache.models.checkpoints import (
    SPECTROGRAMS,
    LoadedEncoder,
    build_encoder,
    load_checkpoint,
    mel_settings,
    track_numbers,
)
from mixstyle.cache.models.separator_records import KEY as SEPARATORS
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.cache.storage.remote_file import fetched_file
from mixstyle.cache.storage.remote_folder import by_url
from mixstyle.cache.storage.urls import not_there
from mixstyle.pipeline.core.errors import GET_AGAIN, MixstyleError, one_line
from mixstyle.pipeline.core.torch_files import not_weights
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.pipeline.encoder.versions import SPECTROGRAMS_VERSION

SUFFIX = ".safetensors"
VERSION = 1
_KEY = "mixstyle"
_TRACKS = "trained_on"
_SHA256 = "sha256"
_EXACT = ("descriptor_center", "descriptor_scale")
"""Kept in float32: descriptors reach hundreds of their units, and float16 has three digits."""


def load_encoder(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Builds the encoder of a checkpoint, or of a file that `save_export` wrote.

    path: a file of this machine, or its URL, such as s3://bucket/encoder.safetensors; a copy of that is kept in the
    user's cache. Raises MixstyleError where the file is neither, or was trained with other descriptors than this
    mixstyle has, and where what is behind a URL cannot be had.
    """
    file = fetched_file(path)
    try:
        if file.suffix == SUFFIX:
            return load_export(file, device)
        return build_encoder(file, load_checkpoint(file, device), device)
    except MixstyleError as error:
        hint = GET_AGAIN if error.code == "damaged-file" else ""
        raise MixstyleError(by_url(error.message), code=error.code, remedy=error.remedy, hint=hint) from error


def save_export(path: Path, loaded: LoadedEncoder, card: str, half: bool = False) -> None:
    """Writes an encoder atomically, after reading it back. half: weights in float16, half the size."""
    content = {
        "version": VERSION,
        "encoder_config": dataclasses.asdict(loaded.encoder.config),
        "mel": mel_settings(loaded.mel),
        SPECTROGRAMS: SPECTROGRAMS_VERSION,
        "descriptor_names": [descriptor.name for descriptor in DESCRIPTORS],
        "descriptors_version": DESCRIPTORS_VERSION,
        "settings": loaded.settings,
        "step": loaded.step,
        "epoch": loaded.epoch,
        "made_from": loaded.content.get("made_from", {}),
        "best_loss": loaded.content.get("best_loss"),
        "card": card,
        SEPARATORS: [record.to_json() for record in loaded.separators],
    }
    tensors = {name: _packed(name, value, half) for name, value in loaded.encoder.state_dict().items()}
    tensors[_TRACKS] = loaded.content.get(_TRACKS, track_numbers(()))
    content[_SHA256] = _digest(tensors, content)
    with atomic_write(path) as temporary:
        try:
            data = save(tensors, {_KEY: json.dumps(content, sort_keys=True)})
        except SafetensorError as error:
            raise MixstyleError(f"{path}: cannot be written ({one_line(error)})", code="cannot-write") from error
        temporary.write_bytes(data)  # what safetensors writes itself can be read by its owner alone
        load_export(temporary)


def load_export(path: Path | str, device: torch.device | str = "cpu") -> LoadedEncoder:
    """Builds the encoder of an exported file, in float32 and evaluation mode; its card is `content["card"]`.

    Raises MixstyleError, naming the file, where it is missing, torn, no encoder, of an unknown version, or was trained
    on other descriptors or spectrograms than this mixstyle computes.
    """
    path = Path(path)
    if not path.is_file():
        raise not_there(path)
    try:
        with safe_open(path, "pt") as file:
            content = json.loads((file.metadata() or {}).get(_KEY, "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except (SafetensorError, ValueError, OSError, RecursionError) as error:
        why = not_weights(path) or one_line(error)
        raise MixstyleError(f"{path}: not a whole safetensors file ({why})", code="damaged-file") from error
    if not isinstance(content, dict):
        raise MixstyleError(
            f"{path}: a safetensors file, but not an encoder that `mixstyle export` wrote", code="wrong-file"
        )
    if content.get("version") != VERSION:
        raise MixstyleError(
            f"{path}: version {content.get('version')!r} of the format; this mixstyle reads version {VERSION}",
            code="unknown-version",
        )
    if content.pop(_SHA256, None) not in (None, _digest(tensors, content)):
        raise MixstyleError(f"{path}: damaged: it does not hold what was written", code="damaged-file")
    content[_TRACKS] = tensors.pop(_TRACKS, track_numbers(()))
    content["encoder"] = {
        name: value.float() if value.is_floating_point() else value for name, value in tensors.items()
    }
    return build_encoder(path, content, device)


def _digest(tensors: Mapping[str, torch.Tensor], content: Mapping[str, Any]) -> str:
    """64 hex digits of the SHA-256 of a file's tensors and of its metadata but for this."""
    told = {name: value for name, value in content.items() if name != _SHA256}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {list(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _packed(name: str, value: torch.Tensor, half: bool) -> torch.Tensor:
    value = value.detach().cpu().contiguous()
    return value.half() if half and value.is_floating_point() and name not in _EXACT else value
