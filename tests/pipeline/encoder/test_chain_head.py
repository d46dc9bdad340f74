"""The head for a bank's groups: its targets, and what its loss asks for."""

import math

import numpy as np
import pytest
import torch

from mixstyle.pipeline.encoder.chain_head import GROUP_PARAMETERS, GroupHead, group_loss, group_parameters
from mixstyle.pipeline.mixing.chains import draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import CHAIN_PARAMETERS, Effect, MixChain

PER_STEM = len(CHAIN_PARAMETERS) + 1


def test_parameters_tell_what_is_on_and_how_much() -> None:
    tilt = EFFECTS["tilt"].parameters["tilt_db"]
    chain = MixChain(((Effect("tilt", {"tilt_db": tilt.high}),), (), (), ()), stem_lufs=(-14.0, -16.0, -18.0, -17.0))
    found = group_parameters(chain).reshape(4, PER_STEM)
    on = [name.endswith("_on") for name in CHAIN_PARAMETERS]
    for stem in range(4):
        told = dict(zip(CHAIN_PARAMETERS, found[stem], strict=False))
        assert {name for name in told if told[name] == 1 and name.endswith("_on")} == (
            {"tilt_on"} if stem == 0 else set()
        )
        values = found[stem, :-1][~np.array(on)]
        assert np.isfinite(values).sum() == (1 if stem == 0 else 0)
    assert found[0, CHAIN_PARAMETERS.index("tilt_tilt_db")] == 1  # the upper bound
    assert found[:, -1] == pytest.approx([1.0, 0.0, -1.0, -0.5])  # of -18 to -14 LUFS
    assert np.isnan(group_parameters(None)).all()
    assert len(group_parameters(None)) == GROUP_PARAMETERS


def test_the_loss_is_cross_entropy_and_squared_error_of_what_is_told() -> None:
    told = torch.full((2, GROUP_PARAMETERS), torch.nan)
    on, value = CHAIN_PARAMETERS.index("gain_on"), CHAIN_PARAMETERS.index("gain_gain_db")
    told[0, on], told[0, value] = 1.0, 0.5
    predicted = torch.zeros(2, GROUP_PARAMETERS)
    predicted[1] = 7.0  # of a clip of which nothing is known
    assert group_loss(predicted, told).item() == pytest.approx(math.log(2) + 3 * 0.25, abs=1e-6)
    assert group_loss(predicted, torch.full_like(told, torch.nan)).item() == 0.0


def test_a_head_learns_what_embeddings_hold() -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    told = torch.from_numpy(np.stack([group_parameters(draw_chain(rng, 4)) for _ in range(16)]))
    head, x = GroupHead(32, 32), torch.randn(16, 32)
    optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
    loss = group_loss(head(x), told)
    first = loss.item()
    for _ in range(150):
        optimizer.zero_grad()
        loss = group_loss(head(x), told)
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1 * first  # 16 points in 32 dimensions can be learned by heart
