"""Separators of other architectures: found by name or by their settings, loaded, and separating as SCNet does."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.paths import DATA, ROOT
from safetensors.torch import save_file
from torch import Tensor, nn

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import STEMS
from mixstyle.pipeline.separation.architectures.base import Architecture, SeparationNetwork, load_weights
from mixstyle.pipeline.separation.architectures.registry import architecture_of, architectures
from mixstyle.pipeline.separation.separator import load_separator


@dataclass(frozen=True)
class GainsConfig:
    """A separator whose stems are the mix at four gains."""

    sources: tuple[str, ...] = ("drums", "bass", "other", "vocals")
    least_chunk_frames: int = 16


class Gains(nn.Module):
    def __init__(self, sources: int) -> None:
        super().__init__()
        self.gains = nn.Parameter(torch.zeros(sources))

    def forward(self, mixtures: Tensor) -> Tensor:
        return mixtures[:, None] * self.gains[:, None, None]


def build(config: GainsConfig, weights: Mapping[str, Tensor], dtype: torch.dtype) -> SeparationNetwork:
    network = Gains(len(config.sources))
    load_weights(network, weights)
    return SeparationNetwork(network.to(dtype), "gains", 4)


GAINS = Architecture("gains", lambda model: "gain_order" in model, lambda model: GainsConfig(), build)


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A YAML and weights of the architecture `gains`, which is in the registry for this test."""
    monkeypatch.setitem(architectures(), "gains", GAINS)
    save_file({"gains": torch.tensor([0.1, 0.2, 0.3, 0.4])}, tmp_path / "gains.safetensors")
    return written(tmp_path, architecture="gains", model={})


def written(folder: Path, **content: Any) -> Path:
    path = folder / "gains.yaml"
    path.write_text(yaml.safe_dump({"audio": {"chunk_size": 1000}, "inference": {"num_overlap": 2}, **content}))
    return path


def test_another_architecture_separates_in_the_order_of_the_stems(config: Path, tmp_path: Path) -> None:
    separator = load_separator(config, tmp_path / "gains.safetensors")
    mixture = torch.randn(2, 3_300, generator=torch.Generator().manual_seed(0))
    stems = separator.separate([mixture])[0]
    gains = dict(zip(GainsConfig().sources, (0.1, 0.2, 0.3, 0.4), strict=True))
    # float32 of values near 1, weighted and summed over two chunks: some 2^-23
    torch.testing.assert_close(stems, torch.stack([mixture * gains[stem] for stem in STEMS]), atol=2e-6, rtol=0)
    assert separator.description.startswith("gains, 0.00 M parameters")
    assert separator.fingerprint != load_separator(config, tmp_path / "gains.safetensors", num_overlap=4).fingerprint


def test_the_architecture_is_told_by_its_name_or_by_its_settings(config: Path) -> None:
    assert architecture_of({"architecture": "gains", "model": {}}).name == "gains"
    assert architecture_of({"model": {"gain_order": 1}}).name == "gains"
    published = yaml.safe_load((DATA / "scnet_plain_b.yaml").read_text().replace("!!python/tuple", ""))
    assert architecture_of(published).name == "scnet"
    for content in ({"architecture": "roformer", "model": {}}, {"model": {"freqs_per_bands": [2]}}):
        with pytest.raises(MixstyleError) as caught:
            architecture_of(content)
        assert caught.value.code == "bad-setting"
        assert "gains" in str(caught.value)


def test_weights_that_do_not_fit_are_told_with_their_name(config: Path, tmp_path: Path) -> None:
    weights = tmp_path / "other.safetensors"
    for state, name in (({}, "gains"), ({"gains": torch.zeros(4), "bias": torch.zeros(1)}, "bias")):
        save_file(state | {} if state else {"bias": torch.zeros(1)}, weights)
        with pytest.raises(MixstyleError) as caught:
            load_separator(config, weights)
        assert caught.value.code == "misfit"
        assert str(weights) in str(caught.value)
        assert name in str(caught.value)
    save_file({"gains": torch.zeros(5)}, weights)
    with pytest.raises(MixstyleError) as caught:
        load_separator(config, weights)
    assert caught.value.code == "misfit"
    assert "[5]" in str(caught.value)


def test_two_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import mixstyle.pipeline.separation.architectures.base as other

    monkeypatch.setattr(other, "ARCHITECTURE", Architecture("scnet", GAINS.recognises, GAINS.read_config, build), False)
    with pytest.raises(ValueError, match="scnet"):
        architectures.__wrapped__()


@pytest.mark.parametrize(
    ("config", "weights", "fingerprint"),
    [
        (
            ROOT / "Music-Source-Separation-Training/configs/scnet_tiny.yaml",
            ROOT / "Music-Source-Separation-Training/scnet_tiny.safetensors",
            "99fe0fa1f611a14c",
        ),
        (DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt", "84c6c2e1af8a0898"),
        (DATA / "scnet_plain_b.yaml", DATA / "scnet_plain_b.safetensors", "dac19d87819ea349"),
    ],
)
def test_fingerprints_of_scnet_are_those_from_before_there_was_a_registry(
    config: Path, weights: Path, fingerprint: str
) -> None:
    """They stand in every cache of stems: another one would have all of it made again."""
    assert load_separator(config, weights).fingerprint == fingerprint
