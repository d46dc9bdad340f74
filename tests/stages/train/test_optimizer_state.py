"""An optimiser's state of another network, or damaged, is refused before it is used."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from mixstyle.stages.train.optimizer_state import take_state

State = dict[str, Any]


def optimizer(steps: int) -> torch.optim.AdamW:
    """Of two parameters, after so many steps."""
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(shape)) for shape in ((2, 3), ())]
    made = torch.optim.AdamW(parameters, lr=0.003, weight_decay=0.01)
    for _ in range(steps):
        made.zero_grad()
        torch.stack([(parameter**2).sum() for parameter in parameters]).sum().backward()
        made.step()
    return made


def of_first(**changed: object) -> Callable[[State], State]:
    """Other values for the first parameter; None takes one away."""

    def change(stored: State) -> State:
        first = {**stored["state"][0], **changed}
        return {**stored, "state": {**stored["state"], 0: {k: v for k, v in first.items() if v is not None}}}

    return change


def of_group(**changed: object) -> Callable[[State], State]:
    """Other settings; None takes one away."""

    def change(stored: State) -> State:
        group = {**stored["param_groups"][0], **changed}
        kept = {name: value for name, value in group.items() if value is not None or name not in changed}
        return {**stored, "param_groups": [kept]}

    return change


@pytest.mark.parametrize(
    "change",
    [
        of_first(exp_avg=torch.zeros(3)),
        of_first(exp_avg=torch.zeros(3, 2)),
        of_first(exp_avg_sq=torch.zeros(2, 3, 1)),
        of_first(step=torch.zeros(3)),
        of_first(step="three"),
        of_first(exp_avg=None),
        of_first(exp_avg_sq=None),
        of_first(step=None),
        of_group(betas=None),
        of_group(betas=0.9),
        of_group(lr="fast"),
        of_group(eps=[1e-8]),
        lambda stored: {**stored, "state": {**stored["state"], 0: torch.zeros(2, 3)}},
        lambda stored: {**stored, "param_groups": []},
        lambda stored: {},
    ],
)
def test_a_state_that_does_not_fit_is_refused(change: Callable[[State], State]) -> None:
    with pytest.raises(ValueError, match=r"optimi[sz]er"):
        take_state(optimizer(0), change(optimizer(3).state_dict()))


@pytest.mark.parametrize("steps", [0, 3])
def test_a_training_goes_on_from_a_state_that_fits(steps: int) -> None:
    whole, resumed = optimizer(steps), optimizer(steps)
    resumed.state.clear()
    take_state(resumed, copy.deepcopy(whole.state_dict()))  # its tensors are those of `whole`
    for each in (whole, resumed):
        each.zero_grad()
        torch.stack([(parameter**2).sum() for parameter in each.param_groups[0]["params"]]).sum().backward()
        each.step()
    ours, theirs = resumed.param_groups[0]["params"], whole.param_groups[0]["params"]
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
