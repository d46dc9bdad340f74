"""What holds for all tests: each of pytest's worker processes computes with its share of the cores."""

import os


def _threads_of_a_worker() -> int:
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // workers)


if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, here and in the processes that tests start: threads that outnumber the cores wait for
    # each other at every parallel region.
    os.environ.setdefault("OMP_NUM_THREADS", str(_threads_of_a_worker()))
