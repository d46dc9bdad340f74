"""The profile's separator and encoder for `mixstyle doctor`: their files, what identifies them, whether they load."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.atomic import sha256_file
from mixstyle.stages.common.assets import shipped
from mixstyle.stages.doctor.findings import Failure, Problem, Section, tried
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import encoder_file

SHORT = 12
"""Hex digits of a file's SHA-256."""


def models_section(settings: Settings) -> Section:
    """Both models, loaded on the CPU."""
    separator, encoder = _separator(settings), _encoder(settings)
    problems = [
        Problem(f"the {name} does not load: {found['loads'].why}", "name another in the profile, or get the file again")
        for name, found in (("separator", separator), ("encoder", encoder))
        if isinstance(found.get("loads"), Failure)
    ]
    return Section("models", {"separator": separator, "encoder": encoder}, tuple(problems))


def _separator(settings: Settings) -> dict[str, Any]:
    chosen = settings.separate
    if chosen.input == "stems":
        return {"file": None, "note": "separate.input=stems: nothing is separated"}
    from mixstyle.stages.common.separators import configured_separator, is_small

    def load() -> Any:
        import torch

        return configured_separator(chosen, torch.device("cpu"), to_separate=False)

    facts = _file_facts(lambda: shipped(chosen.separator_checkpoint)) | {"config": shipped(chosen.separator_config)}
    separator = tried(load)
    if isinstance(separator, Failure):
        return facts | {"loads": separator}
    facts |= {"fingerprint": separator.fingerprint, "precision": chosen.precision, "loads": True}
    if tried(lambda: is_small(separator)) is not True:
        return facts
    return facts | {"note": "the small one that mixstyle ships, for trying things and not for research"}


def _encoder(settings: Settings) -> dict[str, Any]:
    facts = _file_facts(lambda: encoder_file(settings))

    def fingerprint() -> str:
        from mixstyle.cache.models.exports import load_encoder
        from mixstyle.pipeline.separation.separator_checkpoint import digest

        return digest(load_encoder(encoder_file(settings)).encoder.state_dict())

    found = tried(fingerprint)
    return facts | ({"loads": found} if isinstance(found, Failure) else {"fingerprint": found, "loads": True})


def _file_facts(where: Callable[[], Path]) -> dict[str, Any]:
    """A file, its size and its hash."""
    path = tried(where)
    if isinstance(path, Failure):
        return {"file": path}
    return {
        "file": path,
        "size_bytes": tried(lambda: path.stat().st_size),
        "sha256": tried(lambda: sha256_file(path)[:SHORT]),
    }
