"""The C library's memory: kept by this process instead of given back and asked for again."""

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
"""Parameters of mallopt(3), from glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Has this process keep memory that it frees, for good; whether the C library could be told (glibc alone can).

    glibc takes every block above some size from the system and gives it back when it is freed, so each tensor of a
    network's forward pass is paged in again: hundreds of thousands of page faults a second, a quarter of the time of an
    SCNet chunk and nearly half that of a batch of four. The price is that the process keeps its peak. For programs;
    a library should not decide this for its caller.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl has none
        return False
    # One arena: what one thread freed serves the others too.
    return all(mallopt(name, value) for name, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, -1), (_M_ARENA_MAX, 1)))
