"""Checkpoints of the encoder's training. Format version 1.

A `.pt` file that `torch.load(weights_only=True)` reads: a dict of `version`, `encoder` (state dict),
`encoder_config`, `chain_head` (state dict of the head beside it, or None), `mel` (what `StemMel` is built from),
`descriptor_names`, `descriptors_version`, `settings` (all of a profile, plain), `epoch` and `step` (finished),
`optimizer`, `best_loss`, `loss`, `made_from` (fingerprints of stems and features; of a bank and its descriptors, and
`mixed_from`, where it was trained on one), `trained_on` (int64 [N], the
tracks' ids as numbers: `track_numbers`), `training_seconds`, and since `train.reader` `reader`: for each process where
its stream of shards is (`mixstyle.stages.train.readers.Position`), empty where clips are read one by one; and
later `separators`: those whose stems it was trained on (`mixstyle.cache.models.separator_records`),
`spectrograms_version` (of `mixstyle.pipeline.encoder.mel`; 1 where it is not stored), and `made_with`, the fingerprint
of the training's provenance, by which a lost `settings.json` is written again. What is
random in a step is a function of seed and step, and so is the learning rate; bf16 needs no scaling of losses: no
state of generators, scheduler or scaler is needed to go on exactly.

The file is a ZIP, which has a CRC-32 of each part; they are checked whenever it is read.

Names: `latest.pt`, `checkpoint_epoch_X.pt`, `best_model.pt`, `final_model.pt`. All hold the same, so that a
training can be continued from any of them.
"""

import dataclasses
import pickle
import re
import shutil
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mixstyle.cache.models.separator_records import SeparatorRecord, separators_of_encoder
from mixstyle.cache.storage.atomic import atomic_write
from mixstyle.cache.storage.writable import refusals_told
from mixstyle.pipeline.core.errors import UNREADABLE_BY_TORCH, MixstyleError, one_line
from mixstyle.pipeline.core.finite import first_not_finite
from mixstyle.pipeline.core.torch_files import load_plain, why_unreadable
from mixstyle.pipeline.descriptors.compute import DESCRIPTORS, DESCRIPTORS_VERSION
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.encoder.versions import SPECTROGRAMS_VERSION

VERSION = 1
MIXED_FROM = "mixed_from"
"""In `made_from` of an encoder that was trained on a bank: the fingerprint of the stems that this was mixed from."""
SPECTROGRAMS = "spectrograms_version"
"""The key of a file's `SPECTROGRAMS_VERSION`; files of earlier versions, which lack it, have version 1."""
MADE_WITH = "made_with"
"""The key of the fingerprint of what a checkpoint's weights follow from."""
_TO_GO_ON = ("encoder", "optimizer", "step", "epoch", "best_loss", "training_seconds")
"""What going on with a training needs of a checkpoint."""
LATEST, BEST, FINAL = "latest.pt", "best_model.pt", "final_model.pt"


@dataclass(frozen=True, repr=False)
class LoadedEncoder:
    """An encoder ready to use: `encoder(mel(stems), describe(stems))`, in evaluation mode on its device."""

    encoder: Encoder
    mel: StemMel
    settings: dict[str, Any]
    """All settings of the profile that trained it, plain."""
    step: int
    epoch: int
    content: dict[str, Any]
    """The checkpoint without its weights and optimiser."""
    separators: tuple[SeparatorRecord, ...] = ()
    """Those whose stems it was trained on; none where that is not known."""

    def __repr__(self) -> str:
        return f"LoadedEncoder({self.encoder.config.encoder_dim} dimensions, step {self.step}, epoch {self.epoch})"


def track_numbers(track_ids: Iterable[str]) -> torch.Tensor:
    """Tracks' ids, which are hexadecimal, as sorted numbers, int64 [N]: a hundred thousand take less than 1 MB."""
    return torch.tensor(sorted(int(track_id, 16) for track_id in track_ids), dtype=torch.int64)


def epoch_name(epoch: int) -> str:
    """Name of the checkpoint after an epoch, counted from 1."""
    return f"checkpoint_epoch_{epoch}.pt"


def mel_settings(mel: StemMel) -> dict[str, Any]:
    """What `StemMel` is built from."""
    plain: dict[str, Any] = {name: getattr(mel, name) for name in ("sample_rate", "n_fft", "hop_length", "n_mels")}
    return plain | ({"channels": mel.channels} if mel.channels != "left-right" else {})


def describe_encoder(encoder: Encoder, mel: StemMel) -> dict[str, Any]:
    """The part of a checkpoint that `load_encoder` builds an encoder from."""
    return {
        "encoder": encoder.state_dict(),
        "encoder_config": dataclasses.asdict(encoder.config),
        "mel": mel_settings(mel),
        SPECTROGRAMS: SPECTROGRAMS_VERSION,
        "descriptor_names": [descriptor.name for descriptor in DESCRIPTORS],
        "descriptors_version": DESCRIPTORS_VERSION,
    }


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically, after reading it back. Raises MixstyleError ("cannot-write") where that fails."""
    with atomic_write(path) as temporary:
        try:
            with refusals_told(path, temporary):
                torch.save({"version": VERSION, **content}, temporary)
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:  # torch's words for a full disk
            raise _unwritable(path, one_line(error)) from error
        with refusals_told(path, temporary):
            _read_back(path, temporary)


def _read_back(path: Path, temporary: Path) -> None:
    """Raises MixstyleError ("cannot-write") where a file that is to be at `path` does not hold what was written."""
    try:
        _load(temporary, torch.device("cpu"))
    except FileNotFoundError:  # which `atomic_write` tells
        raise
    except UNREADABLE_BY_TORCH as error:
        if isinstance(error, MemoryError):
            raise
        why = "what is read back differs from what was written; another process writes there too, or the disk fails"
        raise _unwritable(path, why) from error


def _unwritable(path: Path, why: str) -> MixstyleError:
    """The refusal of a checkpoint that could not be written, with the room on its disk: often that is the reason."""
    free_mb = shutil.disk_usage(path.parent).free / 1e6
    return MixstyleError(f"{path}: cannot be written ({why}); {free_mb:.0f} MB are free there", code="cannot-write")


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Reads a checkpoint.

    Raises MixstyleError, naming the file, where it is missing, torn, holds code, or has an unknown version.
    """
    if not path.is_file():
        raise MixstyleError(f"{path}: no such checkpoint", code="not-found")
    try:
        content = _load(path, torch.device(device))
    except UNREADABLE_BY_TORCH as error:
        raise MixstyleError(
            f"{path}: not a whole checkpoint ({why_unreadable(error, path)})", code="damaged-file"
        ) from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != VERSION:
        raise MixstyleError(
            f"{path}: version {version!r} of the format; this mixstyle reads version {VERSION}", code="unknown-version"
        )
    return content


def newest_checkpoint(
    folder: Path, take: Callable[[Path, dict[str, Any]], None] | None = None
) -> tuple[tuple[Path, dict[str, Any]] | None, list[str]]:
    """The newest whole checkpoint to go on from and its content, None where there is none; and a line for each one
    passed over that is torn, lacks something or has weights that are not finite. take: is given each that is whole, and
    raises MixstyleError for one that is of another network: it is passed over too.

    Its tensors are on the CPU: AdamW's numbers of steps stay where they are loaded, and on a GPU each is waited for.

    `latest.pt` where it is whole; else the one of most steps among the newest whole one of an epoch, the last and the
    best one.
    """
    torn: list[str] = []
    latest = _first_whole([folder / LATEST], torn, take)
    if latest:
        return latest, torn
    places = ([path for _, path in sorted(_epochs(folder), reverse=True)], [folder / FINAL], [folder / BEST])
    others = [found for paths in places if (found := _first_whole(paths, torn, take))]
    return max(others, key=lambda one: one[1]["step"], default=None), torn


def is_whole(path: Path) -> bool:
    """Whether there is a checkpoint that can be read."""
    try:
        load_checkpoint(path)
    except MixstyleError:
        return False
    return True


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints that a training has written to its folder; files with names of their own are not among them."""
    named = [folder / name for name in (LATEST, BEST, FINAL)]
    return [path for path in (*named, *(path for _, path in sorted(_epochs(folder)))) if path.is_file()]


def drop_unfinished(folder: Path) -> None:
    """Removes what killed writers of checkpoints left. To be called by the process that has the folder's lock."""
    for path in folder.glob(".*.pt.partial"):
        if re.fullmatch(r"\.(latest|best_model|final_model|checkpoint_epoch_\d+)\.pt\.partial", path.name):
            path.unlink(missing_ok=True)


def _epochs(folder: Path) -> list[tuple[int, Path]]:
    """Epochs and their checkpoints."""
    found = ((re.fullmatch(r"checkpoint_epoch_(\d+)\.pt", path.name), path) for path in folder.glob("*.pt"))
    return [(int(match[1]), path) for match, path in found if match]


def _first_whole(
    paths: Sequence[Path],
    torn: list[str],
    take: Callable[[Path, dict[str, Any]], None] | None,
) -> tuple[Path, dict[str, Any]] | None:
    """The first checkpoint that a training can go on from, and its content; torn takes a line for each before it."""
    for path in filter(Path.is_file, paths):
        try:
            content = load_checkpoint(path)
            _check_to_go_on(path, content)
            if take is not None:
                take(path, content)
            return path, content
        except MixstyleError as error:
            torn.append(str(error))
    return None


def _check_to_go_on(path: Path, content: Mapping[str, Any]) -> None:
    """Raises MixstyleError where a training cannot go on from what a checkpoint holds."""
    missing = [name for name in _TO_GO_ON if name not in content]
    kinds = {"step": int, "epoch": int, "best_loss": int | float, "training_seconds": int | float}
    missing = missing or [name for name, kind in kinds.items() if not isinstance(content[name], kind)]
    if missing or not isinstance(content["encoder"], Mapping):
        raise MixstyleError(f"{path}: damaged: it lacks {', '.join(missing) or 'weights'}", code="damaged-file")
    _check_spectrograms(path, content)
    parts = {name: content.get(name) for name in ("encoder", "optimizer", "chain_head")}
    check_finite(path, {name: part for name, part in parts.items() if isinstance(part, Mapping)})


def check_finite(path: Path, state: Mapping[str, Any]) -> None:
    """Raises MixstyleError ("not-finite"), naming file and tensor, for weights that hold NaN or infinite values."""
    name = first_not_finite(state)
    if name:
        raise MixstyleError(f"{path}: its weights hold NaN or infinite values ({name})", code="not-finite")


def build_encoder(path: Path, content: Mapping[str, Any], device: torch.device | str) -> LoadedEncoder:
    """Builds the encoder that the content of a file describes; path: for what is raised, as `load_encoder` does."""
    try:
        return _built(path, content, device)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        what = f"it lacks {error}" if isinstance(error, KeyError) else one_line(error, 200)
        raise MixstyleError(f"{path}: not a whole encoder: {what}", code="damaged-file") from error


def _built(path: Path, content: Mapping[str, Any], device: torch.device | str) -> LoadedEncoder:
    names = [descriptor.name for descriptor in DESCRIPTORS]
    if content["descriptor_names"] != names or content["descriptors_version"] != DESCRIPTORS_VERSION:
        raise MixstyleError(
            f"{path}: was trained on other descriptors (version {content['descriptors_version']}) than this mixstyle "
            f"computes (version {DESCRIPTORS_VERSION}); train again",
            code="misfit",
        )
    _check_spectrograms(path, content)
    check_finite(path, content["encoder"])
    config = content["encoder_config"]
    encoder = Encoder(EncoderConfig(**{**config, "channels": tuple(config["channels"])}))
    encoder.load_state_dict(content["encoder"])
    rest = {name: value for name, value in content.items() if name not in ("encoder", "optimizer", "chain_head")}
    mel = StemMel(**content["mel"])
    return LoadedEncoder(
        encoder.eval().to(device),
        mel.to(device),
        content["settings"],
        content["step"],
        content["epoch"],
        rest,
        separators_of_encoder(content),
    )


def _check_spectrograms(path: Path, content: Mapping[str, Any]) -> None:
    """Raises MixstyleError ("misfit") for weights that were trained on spectrograms of another version."""
    version = content.get(SPECTROGRAMS, 1)
    if version != SPECTROGRAMS_VERSION:
        raise MixstyleError(
            f"{path}: was trained on other spectrograms (version {version}) than this mixstyle computes (version "
            f"{SPECTROGRAMS_VERSION}); train again, or use the version of mixstyle that trained it",
            code="misfit",
        )


def check_zip(path: Path) -> None:
    """Compares the parts of a file that `torch.save` wrote with their CRC-32, which `torch.load` does not.

    Raises ValueError for one that is damaged; other files pass, for `torch.load` to refuse.
    """
    try:
        if not zipfile.is_zipfile(path):
            return
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, struct.error) as error:
        raise ValueError(str(error)) from error
    if wrong is not None:
        raise ValueError(f"{wrong} differs from what was written")


def _load(path: Path, device: torch.device) -> Any:
    check_zip(path)
    return load_plain(path, device)
