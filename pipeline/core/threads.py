"""Runs code of a C library on torch's number of threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")


def run_each(run: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Calls `run` with each part, in as many threads as torch may use; for C by ctypes, which frees the interpreter.

    Raises what `run` raises, of the first part that does.
    """
    threads = min(torch.get_num_threads(), len(parts))
    if threads <= 1:
        for part in parts:
            run(part)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, parts))
