"""Reads the two files that a separator is published as: MSST's YAML and a checkpoint. Neither can run code."""

import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mixstyle.pipeline.core.errors import GET_AGAIN, UNREADABLE_BY_TORCH, MixstyleError, one_line
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.core.torch_files import load_plain, not_weights, why_unreadable
from mixstyle.pipeline.separation.architectures.registry import architecture_of

WRAPPERS = ("best_state", "state", "state_dict", "model_state_dict")
"""Keys under which training programs put the weights, beside their optimiser's. SCNet's author keeps the last ones in
`state` and separates with `best_state`."""


class _Loader(yaml.SafeLoader):
    """Safe YAML that also reads `!!python/tuple`, which the published files carry."""


def _tuple(loader: yaml.SafeLoader, node: yaml.Node) -> tuple[Any, ...]:
    if not isinstance(node, yaml.SequenceNode):
        raise yaml.constructor.ConstructorError(None, None, "a tuple should be a sequence", node.start_mark)
    return tuple(loader.construct_sequence(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:python/tuple", _tuple)


@dataclass(frozen=True)
class SeparatorFile:
    """What a separator's YAML says, as far as separation needs it."""

    model: Any
    """The architecture's settings, an `architectures.base.ModelConfig`."""
    instruments: tuple[str, ...]
    """The sources in the order of the network's output."""
    chunk: int
    num_overlap: int
    normalize: bool
    architecture: str = "scnet"
    """The name of one of `architectures.registry`."""


def read_separator_config(path: str | Path) -> SeparatorFile:
    """Reads an MSST YAML.

    Raises MixstyleError, naming file and setting, where it is missing or malformed, and where its network cannot
    separate stereo into the four stems.
    """
    path = Path(path)
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except OSError as error:
        raise MixstyleError(f"{path}: cannot read the separator's YAML ({error.strerror})", code="not-found") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise MixstyleError(f"{path}: not a safe YAML file: {one_line(error, 300)}", code="damaged-file") from error
    if isinstance(data, dict) and isinstance(name := data.get("model"), str):
        # As the files of MSST's Demucs have it: the architecture's name, and its settings in a section of that name.
        data = {**data, "architecture": name, "model": data.get(name, {})}
    if not isinstance(data, dict) or not isinstance(data.get("model"), dict):
        raise MixstyleError(
            f"{path}: has no `model` section; give the YAML that was published with the checkpoint", code="wrong-file"
        )
    try:
        architecture = architecture_of(data)
        model = architecture.read_config(data["model"])
    except MixstyleError as error:
        raise MixstyleError(f"{path}: {error}", code=error.code) from error

    def refuse(setting: str, why: str) -> NoReturn:
        raise MixstyleError(f"{path}: {setting}: {why}", code="bad-setting")

    audio, inference, training = (_section(path, data, name) for name in ("audio", "inference", "training"))
    target = training.get("target_instrument")
    if target is not None:
        refuse(f"training.target_instrument={target}", "one stem alone; all four are needed")
    instruments = training.get("instruments") or list(model.sources)
    if not isinstance(instruments, list | tuple) or sorted(map(str, instruments)) != sorted(STEMS):
        refuse(f"training.instruments={instruments}", f"only {', '.join(STEMS)} can be used")
    rate = audio.get("sample_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        refuse(f"audio.sample_rate={rate}", f"only {SAMPLE_RATE} Hz can be used")
    chunk = inference.get("chunk_size") or audio.get("chunk_size")
    if not isinstance(chunk, int) or chunk < model.least_chunk_frames:
        refuse(f"audio.chunk_size={chunk}", f"should be a number of samples, {model.least_chunk_frames} or more")
    num_overlap = inference.get("num_overlap", 1)
    if not isinstance(num_overlap, int) or num_overlap < 1:
        refuse(f"inference.num_overlap={num_overlap}", "should be a whole number from 1 on")
    normalize = bool(inference.get("normalize", False))
    return SeparatorFile(model, tuple(instruments), chunk, num_overlap, normalize, architecture.name)


def _section(path: Path, data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = data.get(name) or {}
    if not isinstance(section, dict):
        raise MixstyleError(f"{path}: `{name}` should be a section", code="bad-setting")
    return section


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads weights from .safetensors, or from a .ckpt/.pt/.th, bare or under one of WRAPPERS.

    Raises MixstyleError where the file is missing, is no checkpoint, or is a pickle that wants to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise MixstyleError(
            f"{path}: no such checkpoint; see Music-Source-Separation-Training/README.md", code="not-found"
        )
    if path.suffix == ".safetensors":
        try:
            return bare_names(load_file(path))
        except SafetensorError as error:
            why = not_weights(path) or one_line(error)
            raise MixstyleError(
                f"{path}: not a safetensors file ({why})", code="damaged-file", hint=GET_AGAIN
            ) from error
    try:
        with torch.serialization.safe_globals(_plain_values()):
            data = load_plain(path)
    except pickle.UnpicklingError as error:
        if why := not_weights(path):
            raise MixstyleError(f"{path}: not a checkpoint ({why})", code="damaged-file", hint=GET_AGAIN) from error
        why = why_unreadable(error, path)
        raise MixstyleError(
            f"{path}: refused: the checkpoint would run code when loaded ({why}); if you trust it, convert it to "
            ".safetensors",
            code="damaged-file",
        ) from error
    except UNREADABLE_BY_TORCH as error:
        raise MixstyleError(
            f"{path}: not a readable checkpoint ({why_unreadable(error, path)})", code="damaged-file", hint=GET_AGAIN
        ) from error
    for _ in WRAPPERS:  # some programs wrap twice
        inner = next((data[k] for k in WRAPPERS if isinstance(data, dict) and isinstance(data.get(k), dict)), None)
        if inner is None:
            break
        data = inner
    state = {str(k): v for k, v in data.items() if isinstance(v, Tensor)} if isinstance(data, dict) else {}
    if not state:
        raise MixstyleError(
            f"{path}: holds no weights, neither bare nor under {', '.join(WRAPPERS)}", code="wrong-file"
        )
    return bare_names(state)


def bare_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights by the network's own names, without what wrappers put before them.

    torch.compile puts `_orig_mod.` before the names of what it compiled, DistributedDataParallel `module.` before every
    name, and Lightning the name of an attribute, most often `model.`.

    >>> list(bare_names({"model._orig_mod.module.a": torch.zeros(1), "model._orig_mod.module.b": torch.zeros(1)}))
    ['a', 'b']
    """
    found, before = {name.replace("_orig_mod.", ""): tensor for name, tensor in state.items()}, None
    while before != (before := list(found)):
        found = {name.removeprefix("module."): tensor for name, tensor in found.items()}
        if all(name.startswith("model.") for name in found):
            found = {name.removeprefix("model."): tensor for name, tensor in found.items()}
    return found


def _without_default(*_: Any) -> OrderedDict[Any, Any]:
    """What stands for a defaultdict, whose entries torch's reader does not set."""
    return OrderedDict()


def _plain_values() -> list[Any]:
    """What training programs save beside weights and what runs no code: numpy's numbers and arrays (MSST's metrics),
    paths, command-line options, and dictionaries with a default."""
    multiarray = np._core.multiarray  # pyright: ignore[reportAttributeAccessIssue]
    scalar, array = multiarray.scalar, multiarray._reconstruct
    dtypes = [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [
        *(scalar, (scalar, "numpy.core.multiarray.scalar"), array, (array, "numpy.core.multiarray._reconstruct")),
        *(np.ndarray, np.dtype, *dtypes, list, dict, set, int, float),
        (SimpleNamespace, "argparse.Namespace"),
        (_without_default, "collections.defaultdict"),
        *((PurePath, f"pathlib.{kind}Path") for kind in ("Posix", "Windows", "PurePosix", "PureWindows")),
    ]


def digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and values: the same weights have the same digest in any file format."""
    sha = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        sha.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        sha.update(tensor.view(torch.uint8).numpy().tobytes() if tensor.ndim else tensor.numpy().tobytes())
    return sha.hexdigest()
