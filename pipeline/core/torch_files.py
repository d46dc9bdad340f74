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
    """What the file holds. Raises as `torch.load` does, without its warnings, which are for whoever wrote the file."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location=device, weights_only=True)


_OF_ITS_READER = (EOFError, LookupError, struct.error, AttributeError, TypeError, AssertionError, ArithmeticError)
"""Accidents of the reader of pickles, whose words are about itself and not about the file."""


def why_unreadable(error: BaseException) -> str:
    """Why a file could not be read, in a line, without torch's advice to read it all the same."""
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
