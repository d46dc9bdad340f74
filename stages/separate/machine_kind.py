"""What of a machine moves the last bits of what is computed on it, beside threads and batches.

The folder of a stage notes the kind that it was begun on. On others the same settings give values that differ by
rounding alone: shards that were made there say so in their sidecars.
"""

import os
import platform
from collections.abc import Mapping
from pathlib import Path

import torch

from mixstyle.stages.common.notes import note
from mixstyle.stages.separate.provenance import MACHINE

_MATRIX = ("avx512_bf16", "avx512_fp16", "avx_vnni", "amx_bf16", "amx_fp16", "amx_int8")
"""Flags of /proc/cpuinfo that choose among the kernels of matrix products, beside what torch tells."""


def machine_kind(device: torch.device, cpuinfo: Path = Path("/proc/cpuinfo"), *, lstm_kernel: str = "") -> str:
    """The kind of a machine for one of its devices, in words: instruction sets and torch's version, or the GPU's name.

    Environment variables that hold torch or oneDNN to fewer instructions are part of it. lstm_kernel: what computes the
    separator's LSTMs, where that is not torch's own code.
    """
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    limits = [f"{name}={os.environ[name]}" for name in ("ONEDNN_MAX_CPU_ISA",) if os.environ.get(name)]
    words = [*_processor(cpuinfo), torch.backends.cpu.get_cpu_capability(), *limits]
    return f"{' '.join(words)}, torch {torch.__version__}" + (f", LSTM kernel {lstm_kernel}" if lstm_kernel else "")


def other_kind(notes: Mapping[str, str], device: torch.device, lstm_kernel: str = "") -> str:
    """This machine's kind where it is another than a folder was begun on, and empty where it is the same, or where
    none was noted. notes: of the folder's provenance."""
    here = machine_kind(device, lstm_kernel=lstm_kernel)
    return here if notes.get(MACHINE, here) != here else ""


def tell_other(command: str, notes: Mapping[str, str], here: str) -> None:
    """Warns, once a run, that shards are made on a machine of another kind. here: of `other_kind`."""
    if here:
        note(
            f"warning: {command}: started on {notes[MACHINE]}, and this is {here}: what is made here may differ in its "
            "last bits; this is noted with each shard"
        )


def processor_facts(cpuinfo: Path) -> dict[str, str]:
    """What Linux tells of the first processor, by its names; nothing where there is no such file."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _processor(cpuinfo: Path) -> list[str]:
    """Architecture, maker (libraries choose by it) and the flags that count, as far as Linux tells."""
    told = processor_facts(cpuinfo)
    flags = set(told.get("flags", "").split())
    return [platform.machine(), *told.get("vendor_id", "").split(), *(flag for flag in _MATRIX if flag in flags)]
