"""Files that `torch.save` wrote, read as tensors and numbers alone: nothing in them is run."""

import pickle
import re
import struct
import warnings
from pathlib import Path
from typing import Any

import torch

from mixstyle.pipeline.core.errors import one_line


def load_plain(path: Path, device: torch.device | str = "cpu") -> Any:
    """What the file holds. Raises as `torch.load` does, without its warnings, which are for the author of the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location=device, weights_only=True)


_OF_ITS_READER = (EOFError, LookupError, struct.error, AttributeError, TypeError, AssertionError, ArithmeticError)
"""Accidents of the reader of pickles, whose words are about itself and not about the file."""


_LEAST_BYTES = 64
"""Of a file with any tensor in it; `torch.save` and safetensors write more even of an empty dict's."""
_OTHER_KINDS = {
    b"version https://git-lfs": "a pointer of Git LFS in the place of the file; `git lfs pull` brings it",
    b"<!doctype": "a web page",
    b"<html": "a web page",
    b"<?xml": "an answer of a server, not the file",
    b"{": "text, not weights",
}
"""By how files begin, in small letters, that people have in the place of weights."""


def not_weights(path: Path) -> str:
    """Why a file holds no weights, by its size and how it begins; empty where it may hold some.

    A file of `torch.save` is a zip archive or begins with a pickle; safetensors begin with the length of a header of
    JSON, in 8 bytes.
    """
    with path.open("rb") as file:
        head = file.read(_LEAST_BYTES)
    if not head:
        return "empty, 0 bytes"
    for beginning, kind in _OTHER_KINDS.items():
        if head.lower().startswith(beginning):
            return kind
    if len(head) < _LEAST_BYTES:
        return f"only {len(head)} bytes, too few for any weights"
    begins = head[8:9] == b"{" if path.suffix == ".safetensors" else head[:2] == b"PK" or head[:1] == b"\x80"
    return "" if begins else "another kind of file: it does not begin as one with weights"


def why_unreadable(error: BaseException, path: Path) -> str:
    """Why a file could not be read, in a line, without torch's advice to read it anyway."""
    if told := not_weights(path):
        return told
    told = str(error)
    foreign = re.search(r"GLOBAL ([\w.]+)", told)
    if foreign is not None:
        return f"holds {foreign[1]}, more than tensors and numbers"
    if "TorchScript" in told:
        return "a TorchScript program, more than tensors and numbers"
    if isinstance(error, pickle.UnpicklingError):
        return "damaged, or more than tensors and numbers"
    if isinstance(error, _OF_ITS_READER):  # such as "pop from empty list"
        return "cut short, damaged, or another kind of file"
    return one_line(error)
