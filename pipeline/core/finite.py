"""Whether weights are finite."""

from collections.abc import Mapping
from typing import Any

import torch


def first_not_finite(state: Mapping[str, Any]) -> str:
    """The name of the first tensor of a state dict that holds NaN or infinite values; empty where none does.

    State dicts in it, as optimisers have them, are looked through too.

    >>> first_not_finite({"a": torch.zeros(2), "steps": torch.tensor(3), "b": torch.tensor([1.0, torch.inf])})
    'b'
    >>> first_not_finite({"state": {0: {"exp_avg": torch.tensor(torch.nan)}}})
    'state.0.exp_avg'
    """
    for name, value in state.items():
        if isinstance(value, Mapping) and (inner := first_not_finite(value)):
            return f"{name}.{inner}"
        if isinstance(value, torch.Tensor) and value.is_floating_point() and not torch.isfinite(value).all():
            return str(name)
    return ""
