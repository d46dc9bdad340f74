"""The machine for `mixstyle doctor`: processor, cores, memory and shared memory. Nothing slow is imported."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from mixstyle.cache.storage.compiled import c_compiler
from mixstyle.pipeline.core.cores import usable_cores
from mixstyle.stages.common.machine_memory import meminfo
from mixstyle.stages.doctor.findings import Failure, Problem, Section, facts_of, tried

SHARED_MEMORY = Path("/dev/shm")
LITTLE_SHARED_BYTES = 1e9
"""16 clips of 10 s, 4 stems, stereo, float32 are 226 MB, and each loading process hands over a batch at a time."""
_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 1 << 60
"""What cgroups of version 1 write for "no limit" is above this."""
_KNOWN_SETS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2", "sme"),
)
"""Names in /proc/cpuinfo of what torch and oneDNN choose their code by: x86, then ARM."""
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES")


def machine_section() -> Section:
    """System, processor, cores that may be used, instruction sets, and the variables that change how it computes."""
    cpuinfo = tried(Path("/proc/cpuinfo").read_text)
    known = "" if isinstance(cpuinfo, Failure) else cpuinfo
    return Section(
        "machine",
        facts_of(
            {
                "system": lambda: f"{platform.system()} {platform.release()} {platform.machine()}",
                "c_library": lambda: " ".join(platform.libc_ver()).strip() or None,
                "processor": lambda: processor_of(known),
                "cores": lambda: f"{usable_cores()} of {os.cpu_count()} may be used",
                "core_limit": core_limit,
                "instruction_sets": lambda: instruction_sets_of(known),
                "c_compiler": lambda: c_compiler() or "none",
                "environment_variables_set": _variables,
            }
        ),
    )


def _variables() -> list[str]:
    return [f"{name}={os.environ[name]}" for name in _VARIABLES if name in os.environ]


def processor_of(cpuinfo: str) -> str:
    """The processor's name, from the text of /proc/cpuinfo or, without it, from the system."""
    for name in ("model name", "Model", "Hardware", "cpu model"):
        if found := _value(cpuinfo, name):
            return found
    if platform.system() == "Darwin":
        words = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(words, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    return platform.processor() or platform.machine()


def instruction_sets_of(cpuinfo: str) -> list[str]:
    """The instruction sets in the text of /proc/cpuinfo that matter here."""
    have = set((_value(cpuinfo, "flags") or _value(cpuinfo, "Features")).split())
    return [name for name in _KNOWN_SETS if name in have]


def _value(cpuinfo: str, name: str) -> str:
    lines = (line.partition(":") for line in cpuinfo.splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "")


def core_limit(group: Path = _CGROUP) -> float | None:
    """How many cores' time a container gets; None where nothing limits it."""
    if (group / "cpu.max").is_file():
        quota, period = (group / "cpu.max").read_text().split()
    elif (group / "cpu" / "cpu.cfs_quota_us").is_file():
        quota, period = ((group / "cpu" / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
    else:
        return None
    return None if quota in ("max", "-1") else int(quota) / int(period)


def memory_section() -> Section:
    """Memory of the machine and of the container, and shared memory."""
    facts = facts_of(
        {
            "total_bytes": total_bytes,
            "available_bytes": lambda: meminfo().get("MemAvailable"),
            "swap_bytes": lambda: meminfo().get("SwapTotal"),
            "limit_bytes": memory_limit_bytes,
            "shared_memory_bytes": shared_memory_bytes,
        }
    )
    return Section("memory", facts, shared_memory_problems(facts["shared_memory_bytes"]))


def total_bytes() -> int:
    """The machine's memory."""
    return meminfo().get("MemTotal") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_limit_bytes(group: Path = _CGROUP) -> int | None:
    """The most that a container may use; None where nothing limits it."""
    for path in (group / "memory.max", group / "memory" / "memory.limit_in_bytes"):
        if path.is_file():
            text = path.read_text().strip()
            return None if text == "max" or int(text) >= _NO_LIMIT_BYTES else int(text)
    return None


def shared_memory_bytes() -> int | None:
    """The size of shared memory; None on systems that have no file system for it."""
    if not SHARED_MEMORY.is_dir():
        return None
    found = os.statvfs(SHARED_MEMORY)
    return found.f_blocks * found.f_frsize


def shared_memory_problems(size: Any) -> tuple[Problem, ...]:
    """What to say of a size of shared memory in bytes; a Failure or None says nothing."""
    if not isinstance(size, int) or size >= LITTLE_SHARED_BYTES:
        return ()
    what = (
        f"{SHARED_MEMORY} has {size / 1e6:.0f} MB: data of loading processes that does not fit is copied, "
        "which takes longer"
    )
    return (
        Problem(what, f"in a container: docker run --shm-size=8g; as root: mount -o remount,size=8g {SHARED_MEMORY}"),
    )
