"""The machine's facts, from texts as kernels write them, and against what the system says by other ways."""

import os
from pathlib import Path

import pytest

from mixstyle.stages.doctor.findings import Failure
from mixstyle.stages.doctor.machine import (
    core_limit,
    instruction_sets_of,
    machine_section,
    memory_limit_bytes,
    memory_section,
    processor_of,
    shared_memory_problems,
)

X86 = "processor\t: 0\nmodel name\t: AMD EPYC 9355 32-Core Processor\nflags\t\t: fpu sse4_2 avx2 avx512f amx_tile\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd sve bf16\nModel\t\t: Raspberry Pi 5\n"


def test_processors_are_read_of_what_kernels_write() -> None:
    assert processor_of(X86) == "AMD EPYC 9355 32-Core Processor"
    assert instruction_sets_of(X86) == ["sse4_2", "avx2", "avx512f", "amx_tile"]
    assert processor_of(ARM) == "Raspberry Pi 5"
    assert instruction_sets_of(ARM) == ["asimd", "bf16", "sve"]
    assert instruction_sets_of("") == []
    assert processor_of("")  # whatever the system calls it


def test_limits_of_containers_of_both_kinds(tmp_path: Path) -> None:
    assert (core_limit(tmp_path), memory_limit_bytes(tmp_path)) == (None, None)
    first = tmp_path / "1"
    for name, text in {"cpu/cpu.cfs_quota_us": "150000", "cpu/cpu.cfs_period_us": "100000"}.items():
        (first / name).parent.mkdir(parents=True, exist_ok=True)
        (first / name).write_text(text)
    (first / "memory").mkdir()
    (first / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert (core_limit(first), memory_limit_bytes(first)) == (1.5, None)
    second = tmp_path / "2"
    second.mkdir()
    (second / "cpu.max").write_text("200000 100000\n")
    (second / "memory.max").write_text("4294967296\n")
    assert (core_limit(second), memory_limit_bytes(second)) == (2.0, 4 << 30)
    (second / "cpu.max").write_text("max 100000\n")
    (second / "memory.max").write_text("max\n")
    assert (core_limit(second), memory_limit_bytes(second)) == (None, None)


def test_memory_is_what_the_system_says() -> None:
    # sysconf counts the same pages that MemTotal counts, in kB
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory_section().facts["total_bytes"] == pytest.approx(pages, abs=1024)


def test_little_shared_memory_is_a_problem_with_a_remedy() -> None:
    (problem,) = shared_memory_problems(64 << 20)  # Docker's
    assert "67 MB" in problem.what
    assert "--shm-size" in problem.remedy
    assert [shared_memory_problems(size) for size in (8 << 30, None, Failure("x"))] == [(), (), ()]


def test_one_fact_that_fails_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("not here")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr("os.statvfs", refuse)
    facts = memory_section().facts
    assert isinstance(facts["total_bytes"], Failure)
    assert isinstance(facts["shared_memory_bytes"], Failure)
    assert machine_section().facts["instruction_sets"] == []
