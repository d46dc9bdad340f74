"""Every objective: what it asks for, its loss by chance, and that a new file is found."""

import importlib
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch

import mixstyle.pipeline.encoder.objectives as package
from mixstyle.pipeline.encoder.objectives.base import Objective
from mixstyle.pipeline.encoder.objectives.registry import (
    all_objectives,
    chance_loss,
    grid_objectives,
    objectives,
)
from mixstyle.pipeline.mixing.mix_chain import Effect, MixChain

SHIPPED = {"same-song", "shared-chain", "chain-ring", "two-axis"}


@dataclass
class Draw:
    """Chains that tell where they come from: gains of their own."""

    item: int
    batch: int
    drawn: list[MixChain] = field(default_factory=list)

    def _chain(self, gain_db: float) -> MixChain:
        return MixChain(tuple((Effect("gain", {"gain_db": gain_db}),) for _ in range(4)))

    def fresh(self) -> MixChain:
        self.drawn.append(self._chain(100 + 10 * self.item + len(self.drawn)))
        return self.drawn[-1]

    def of_item(self, item: int) -> MixChain:
        assert 0 <= item < self.batch
        return self._chain(item)


@pytest.mark.parametrize("objective", objectives().values(), ids=objectives())
class TestEveryObjective:
    def test_its_chance_loss_is_that_of_equal_embeddings(self, objective: Objective) -> None:
        for batch in (2, 5, 24):
            same = torch.ones(batch, 3)
            # float32 rounding of a logarithm of some 70 terms
            assert objective.loss(same, same, same, 0.1).loss.item() == pytest.approx(
                objective.chance_loss(batch), abs=1e-5
            )

    def test_anchor_and_positive_have_one_chain_and_the_negative_another(self, objective: Objective) -> None:
        for item in range(3):
            anchor, positive, negative = objective.chains(Draw(item, 3))
            assert anchor == positive != negative

    def test_embeddings_that_know_everything_beat_chance(self, objective: Objective) -> None:
        anchor = torch.eye(8)
        negative = anchor.roll(-1, 0)  # a ring: the next item's chain
        result = objective.loss(anchor, anchor, negative if objective.name == "chain-ring" else -anchor, 0.1)
        assert result.loss.item() < 0.5 * objective.chance_loss(8)
        assert result.accuracy.item() == 1

    def test_it_trains(self, objective: Objective) -> None:
        anchor, positive, negative = (torch.randn(4, 6, requires_grad=True) for _ in range(3))
        objective.loss(anchor, positive, negative, 0.2).loss.backward()
        for embeddings in (anchor, positive, negative):
            assert embeddings.grad is not None
            assert embeddings.grad.abs().max() > 0


def test_the_shipped_ones_are_there_and_only_they_ask_for_other_songs() -> None:
    assert set(objectives()) == SHIPPED
    own = {name for name, objective in objectives().items() if objective.positive_from == "own-song"}
    assert own == {"same-song", "two-axis"}
    assert chance_loss("same-song", 24) == pytest.approx(3.8712, abs=1e-4)  # ln 48
    assert chance_loss("chain-ring", 24) == pytest.approx(4.2627, abs=1e-4)  # ln 71


def test_every_grid_objective_knows_chance_and_trains() -> None:
    assert set(grid_objectives()) == {"chain-grid"}
    groups, contents = torch.arange(4).repeat(3), torch.arange(6).repeat_interleave(2)
    for name, objective in grid_objectives().items():
        same = objective.loss(torch.ones(12, 3), groups, contents, 0.1).loss.item()
        assert same == pytest.approx(chance_loss(name, 4, 3), abs=1e-5) == pytest.approx(2.3979, abs=1e-4)  # ln 11
        told = objective.loss(torch.eye(4).repeat(3, 1), groups, contents, 0.1)
        assert told.loss.item() < 0.5 * same  # ln 2 and the rest: an anchor has two positives
        assert told.accuracy.item() == 1
        x = torch.randn(12, 6, requires_grad=True)
        objective.loss(x, groups, contents, 0.2).loss.backward()
        assert x.grad is not None
        assert (x.grad.abs().amax(1) > 0).all()


def test_a_ring_passes_chains_on() -> None:
    ring = objectives()["chain-ring"]
    chains = [ring.chains(Draw(item, 3)) for item in range(3)]
    for item in range(3):
        assert chains[item][2] == chains[(item + 1) % 3][0]


def test_a_new_file_is_a_new_objective(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worked example of the package's docstring, as a file of its own."""
    example = (package.__doc__ or "").split("    class", 1)[1].split("Nothing else")[0]
    lines = [line.removeprefix("    ") for line in f"    class{example}".splitlines()]
    head = (
        "import math\n"
        "from mixstyle.pipeline.encoder.losses import info_nce\n"
        "from mixstyle.pipeline.encoder.objectives.base import Objective\n"
    )
    (tmp_path / "wider_margin.py").write_text(head + "\n".join(lines))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    all_objectives.cache_clear()
    try:
        assert set(objectives()) == {*SHIPPED, "wider-margin"}
        assert chance_loss("wider-margin", 4) == pytest.approx(2.0794, abs=1e-4)  # ln 8, to four decimals
    finally:
        sys.modules.pop(f"{package.__name__}.wider_margin", None)
        all_objectives.cache_clear()
