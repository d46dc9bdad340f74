"""Taking an optimiser's state from a checkpoint, held against the network that it is for."""

from collections.abc import Mapping
from typing import Any

import torch

from mixstyle.pipeline.core.errors import one_line


def take_state(optimizer: torch.optim.AdamW, stored: Mapping[str, Any]) -> None:
    """Loads what `state_dict` gave.

    Raises ValueError where it does not fit the parameters. torch's own loading compares only how many there are: what
    has another shape, or lacks a part, would fail in the first step.
    """
    try:
        optimizer.load_state_dict(dict(stored))
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise ValueError(f"the optimiser's state cannot be read ({one_line(error)})") from error
    for name, value in optimizer.defaults.items():
        kind = (int, float) if isinstance(value, float) else type(value)
        for group in optimizer.param_groups:
            if value is not None and not isinstance(group.get(name), kind):
                raise ValueError(f"the optimiser's {name} is {group.get(name)!r:.40}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for number, parameter in enumerate(parameters):
        state = optimizer.state.get(parameter)
        if not state:  # none before the first step
            continue
        for name, shape in (("step", ()), ("exp_avg", parameter.shape), ("exp_avg_sq", parameter.shape)):
            found = state.get(name)
            has = list(found.shape) if isinstance(found, torch.Tensor) else None
            if has != list(shape):
                raise ValueError(f"the optimiser's {name} of parameter {number} has shape {has}, not {list(shape)}")
