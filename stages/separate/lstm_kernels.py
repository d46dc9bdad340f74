"""Which code computes the separator's LSTMs: torch's, or a kernel that is built on this machine.

They differ in the last bits of bf16. So a folder of stems keeps the one that it was begun with, which is in its
`settings.json`; folders that name none were begun with torch's.
"""

import ctypes
import os
from functools import cache
from pathlib import Path

import torch

from mixstyle.cache.storage.compiled import NotCompiledError, compiled
from mixstyle.pipeline.separation.kernels.lstm import SOURCE, VARIANTS, LstmKernel, Variant
from mixstyle.pipeline.separation.separator import Separator
from mixstyle.stages.common.notes import note
from mixstyle.stages.separate.machine_kind import processor_facts


def set_lstm_kernel(separator: Separator, stored: str | None) -> str:
    """Sets what computes the LSTMs of a separator; the name for its folder, empty for torch's own.

    stored: what the folder was begun with; None where there is none. A kernel that this machine lacks is replaced by
    torch's, which is told, and keeps its name: what `machine_kind` tells of this machine is then another.
    """
    wanted = stored != "" and separator.precision == "bf16" and separator.device.type == "cpu"
    separator.use_lstm_kernel(lstm_kernel(stored) if wanted else None)
    if stored and separator.precision == "bf16" and stored != separator.lstm_kernel:
        note(
            f"warning: this output was started with the LSTM kernel {stored}, which cannot be used "
            "here; torch's code is used instead"
        )
    return separator.lstm_kernel if stored is None else stored


def lstm_kernel(name: str | None = None) -> LstmKernel | None:
    """The fastest kernel of this machine, or the one of this name, built at its first use.

    None if the processor lacks the instructions, or none can be built, which is told.
    """
    reason = ""
    for variant in VARIANTS:
        if name in (None, variant.name) and suits(variant, Path("/proc/cpuinfo")):
            built = _built(variant)
            if isinstance(built, LstmKernel):
                return built
            reason = built
    if reason:
        note(f"the separator's LSTMs run on torch's own code, more slowly than this processor could: {reason}")
    return None


def computes_bf16() -> bool:
    """Whether the processor multiplies bfloat16 by instructions of its own that torch may use."""
    return any(suits(variant, Path("/proc/cpuinfo")) for variant in VARIANTS)


def suits(variant: Variant, cpuinfo: Path) -> bool:
    """Whether the processor has the instructions, and no environment variable holds torch or oneDNN to fewer."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "").upper()
    limited = limit not in ("", "ALL", "DEFAULT", *variant.onednn_isas)
    if limited or torch.backends.cpu.get_cpu_capability() != "AVX512":
        return False
    return variant.processor <= set(processor_facts(cpuinfo).get("flags", "").split())


@cache
def _built(variant: Variant) -> LstmKernel | str:
    """The kernel, or why there is none."""

    def checked(library: ctypes.CDLL) -> LstmKernel:
        kernel = LstmKernel(library, variant)
        kernel.check()
        return kernel

    try:
        return compiled(SOURCE, variant.flags, checked)
    except NotCompiledError as error:
        return str(error)
