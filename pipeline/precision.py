"""Keeps measurements in real float32, whatever a training loop has allowed its matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exact_float32(device: torch.device | str) -> Iterator[None]:
    """Inside, matrix products on `device` neither autocast nor round to TF32 or bfloat16.

    A TF32 product keeps 10 bits of the mantissa: filters that subtract nearly equal numbers would be off by decibels.
    The allowed precision is torch's global; it is put back at the end.
    """
    kind = torch.device(device).type
    allowed = torch.get_float32_matmul_precision()
    try:
        if allowed != "highest":
            torch.set_float32_matmul_precision("highest")
        with torch.autocast(kind, enabled=False):
            yield
    finally:
        if allowed != "highest":
            torch.set_float32_matmul_precision(allowed)
