"""Which device a stage computes on."""

import torch

from mixstyle.pipeline.core.errors import MixstyleError


def resolve_device(name: str, option: str = "--device") -> torch.device:
    """`auto` (CUDA where there is one, else the CPU), `cpu`, `cuda` or `cuda:N` as a device.

    >>> resolve_device("cpu")
    device(type='cpu')

    option: the command line's option that names it, for what is told. Raises MixstyleError for another name, and for a
    CUDA device that this machine does not have.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda:0" if count else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    kind, colon, number = name.partition(":")
    if kind != "cuda" or (colon and not number.isdecimal()):
        raise MixstyleError(f"device={name}: should be auto, cpu, cuda or cuda:N", code="bad-setting")
    index = int(number) if colon else 0
    if count == 0:
        raise MixstyleError(
            f'device={name}: torch finds no CUDA device here; give {option} cpu (in Python device="cpu")',
            code="no-device",
        )
    if index >= count:
        raise MixstyleError(
            f"device={name}: this machine has cuda:0 to cuda:{count - 1}; give {option} cuda:0", code="no-device"
        )
    return torch.device("cuda", index)
