"""Keeps measurements in real float32, whatever a training loop has allowed its matrix products."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

_BACKENDS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)  # pyright: ignore[reportAttributeAccessIssue]


class _Exactness:
    """Set when the first thread needs it, put back when the last one is done."""

    def __init__(self) -> None:
        self._lock, self._users, self._allowed = threading.Lock(), 0, list[str]()

    def begin(self) -> None:
        with self._lock:
            if self._users == 0:
                self._allowed = [backend.fp32_precision for backend in _BACKENDS]
                for backend in _BACKENDS:
                    backend.fp32_precision = "ieee"
            self._users += 1

    def end(self) -> None:
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for backend, precision in zip(_BACKENDS, self._allowed, strict=True):
                    backend.fp32_precision = precision


_exactness = _Exactness()


@contextmanager
def exact_float32(device: torch.device | str) -> Iterator[None]:
    """Inside, matrix products on `device` neither autocast nor round to TF32 or bfloat16.

    A TF32 product keeps 10 bits of the mantissa: filters that subtract nearly equal numbers would be off by decibels.
    What is allowed is global to torch; the last thread that is inside puts it back at the end. Each backend is asked by
    itself, since the function for all of them, torch.get_float32_matmul_precision, raises once a program has set one of
    them alone.
    """
    _exactness.begin()
    try:
        with torch.autocast(torch.device(device).type, enabled=False):
            yield
    finally:
        _exactness.end()
