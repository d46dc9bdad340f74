"""How many cores there are, on systems that bind processes to some and on those that do not."""

import os

import pytest

from mixstyle.pipeline.core.cores import usable_cores


def test_those_that_the_process_is_bound_to() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system binds no process")
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores() == 1
    finally:
        os.sched_setaffinity(0, before)


def test_all_of_them_where_the_system_binds_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS
    assert usable_cores() == (os.cpu_count() or 1)
