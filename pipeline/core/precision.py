"""Keeps measurements in real float32, whatever a training loop has allowed its matrix products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def exact_float32(device: torch.device | str) -> Iterator[None]:
    """Inside, matrix products on `device` neither autocast nor round to TF32 or bfloat16.

    A TF32 product keeps 10 bits of the mantissa: filters that subtract nearly equal numbers would be off by decibels.
    What is allowed is global to torch; it is put back at the end. Each backend is asked by itself, since the
    function for all of them, torch.get_float32_matmul_precision, raises once a program has set one of them alone.
    """
    allowed = [backend.fp32_precision for backend in _BACKENDS]
    try:
        for backend in _BACKENDS:
            backend.fp32_precision = "ieee"
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        for backend, precision in zip(_BACKENDS, allowed, strict=True):
            backend.fp32_precision = precision
