"""Devices for `mixstyle doctor`: what torch finds, computes with, and may be missing. Imports torch and torchaudio."""

import importlib
from pathlib import Path
from typing import Any

from mixstyle.stages.doctor.findings import Failure, Problem, Section, facts_of, tried
from mixstyle.stages.doctor.packages import installing, requirement

NVIDIA = Path("/proc/driver/nvidia/version")
"""Where Linux has the NVIDIA driver."""


def devices_section() -> Section:
    """Whether torch and torchaudio load, what torch was built with, and its devices with their memory."""
    torch = tried(lambda: importlib.import_module("torch"))
    if isinstance(torch, Failure):
        remedy = installing(requirement("torch"), requirement("torchaudio"), again=True)
        return Section("devices", {"torch": torch}, (Problem("torch does not load", remedy),))
    facts = facts_of(
        {
            "torchaudio_loads": lambda: bool(importlib.import_module("torchaudio")),
            "cpu_code": torch.backends.cpu.get_cpu_capability,
            "threads": torch.get_num_threads,
            "onednn": torch.backends.mkldnn.is_available,
            "cuda_of_torch": lambda: torch.version.cuda,
            "hip_of_torch": lambda: torch.version.hip,
            "cudnn": torch.backends.cudnn.version,
            "nvidia_driver": nvidia_driver,
            "devices": lambda: _devices(torch),
        }
    )
    return Section("devices", facts, device_problems(facts))


def nvidia_driver() -> str | None:
    """The version of NVIDIA's driver on Linux; None where there is none."""
    if not NVIDIA.is_file():
        return None
    words = NVIDIA.read_text().splitlines()[0].split()
    return next((word for word in words if word[:1].isdigit()), None)


def _devices(torch: Any) -> dict[str, Any]:
    """CUDA devices by torch's names for them, with their memory; `cpu` alone where there is none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = {f"cuda:{place}": tried(lambda place=place: _device(torch, place)) for place in range(count)}
    return found or {"cpu": "no CUDA device found"}


def _device(torch: Any, place: int) -> dict[str, Any]:
    told = torch.cuda.get_device_properties(place)
    return {
        "name": told.name,
        "compute_capability": f"{told.major}.{told.minor}",
        "total_bytes": told.total_memory,
        "free_bytes": tried(lambda: torch.cuda.mem_get_info(place)[0]),
    }


def device_problems(facts: dict[str, Any]) -> tuple[Problem, ...]:
    """What is likely wrong with what `devices_section` found."""
    problems = []
    if isinstance(facts["torchaudio_loads"], Failure):
        remedy = installing(requirement("torch"), requirement("torchaudio"), again=True)
        problems.append(Problem("torchaudio does not load", remedy))
    only_cpu = isinstance(facts["devices"], dict) and "cpu" in facts["devices"]
    if only_cpu and isinstance(facts["nvidia_driver"], str):
        built = facts["cuda_of_torch"]
        why = f"is built for CUDA {built}, which may be newer than the driver" if built else "is built without CUDA"
        what = f"an NVIDIA driver is installed ({facts['nvidia_driver']}), but torch finds no device: torch {why}"
        problems.append(Problem(what, "see https://pytorch.org/get-started/locally for the command that fits"))
    return tuple(problems)
