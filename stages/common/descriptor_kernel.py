"""Which code measures clips for the descriptors on a CPU: torch's, or the kernel that is built on this machine.

`describe` is what all commands describe clips with. The two ways differ in their last bits. So a store of descriptors
keeps the one that it was begun with, which is in its `made_with`; stores that name none were begun with torch's.
"""

import ctypes
import os
from functools import cache

import torch
from torch import Tensor

from mixstyle.cache.storage.compiled import NotCompiledError, compiled
from mixstyle.pipeline.core.stems import SAMPLE_RATE
from mixstyle.pipeline.descriptors import compute
from mixstyle.pipeline.descriptors.kernels.measure import FLAGS, NAME, SOURCE, MeasureKernel
from mixstyle.stages.common.notes import note


def describe(stems: Tensor, sample_rate: int = SAMPLE_RATE) -> Tensor:
    """Descriptors [B, D] of stems [B, 4, 2, T], as `compute.describe` has them, by the kernel where there is one."""
    kernel = descriptor_kernel() if stems.device.type == "cpu" else None
    return compute.describe(stems, sample_rate, kernel=kernel)


def kernel_of(stored: str | None, device: torch.device) -> MeasureKernel | None:
    """What computes a store on a device; None for torch's code.

    stored: the kernel that the store was begun with, empty for torch's own; None where it is begun now. Where the store
    was begun with a kernel that this machine lacks, torch's code goes on with it, which is told.
    """
    kernel = descriptor_kernel() if stored in (None, NAME) and device.type == "cpu" else None
    if stored and kernel is None:
        note(
            f"warning: this output was started with the descriptors' kernel {stored}, which is not available here; "
            "torch's code is used"
        )
    return kernel


def descriptor_kernel() -> MeasureKernel | None:
    """The kernel, built at its first use; None where the processor is none for it, where `ATEN_CPU_CAPABILITY` names
    instructions, or where nothing can build it."""
    instructions = torch.backends.cpu.get_cpu_capability()
    if instructions not in FLAGS or os.environ.get("ATEN_CPU_CAPABILITY"):
        return None
    return _kernel(instructions)


@cache
def _kernel(instructions: str) -> MeasureKernel | None:
    try:
        return compiled(SOURCE, FLAGS[instructions], _checked)
    except NotCompiledError as error:
        note(f"descriptors are computed by torch's own code, more slowly than this processor could: {error}")
        return None


def _checked(library: ctypes.CDLL) -> MeasureKernel:
    kernel = MeasureKernel(library)
    kernel.check()
    return kernel
