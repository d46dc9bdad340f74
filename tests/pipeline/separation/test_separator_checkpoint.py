"""Checkpoints as training programs of this field write them hold the same weights, and nothing that runs."""

import argparse
import os
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.paths import DATA
from safetensors.torch import save_file
from torch import Tensor

from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.pipeline.separation.separator_checkpoint import digest, read_state_dict

CONFIG = DATA / "scnet_masked_a.yaml"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return torch.load(DATA / "scnet_masked_a.ckpt", weights_only=True)


def saved(folder: Path, content: Any) -> Path:
    path = folder / "model.ckpt"
    torch.save(content, path)
    return path


def test_numbers_of_numpy_among_the_metrics(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """MSST keeps numpy's numbers beside the weights (`best_metric`, `all_metrics`), others their options and paths."""
    metrics = defaultdict(list)
    for kind in (np.float64, np.float32, np.int64, np.bool_):
        metrics["sdr"].append(kind(1))
    path = saved(
        tmp_path,
        {
            "epoch": 3,
            "best_metric": np.float64(9.8),
            "all_metrics": {"epoch_0": metrics, "array": np.arange(3.0)},
            "args": argparse.Namespace(results_path=Path("results"), device_ids=[0]),
            "optimizer_state_dict": torch.optim.AdamW([torch.zeros(2, requires_grad=True)]).state_dict(),
            "model_state_dict": weights,
        },
    )
    assert digest(read_state_dict(path)) == digest(weights)
    assert load_separator(CONFIG, path).network.form == "masked"


def test_numbers_of_an_older_numpy(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """numpy 1 called the same function by another name, which the files of its time have."""
    path = saved(tmp_path, {"best_metric": np.float64(9.8), "state_dict": weights})
    data = path.read_bytes()
    assert b"numpy._core.multiarray" in data
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(tmp_path / "old.ckpt", "w") as old:
        for name in whole.namelist():
            old.writestr(name, whole.read(name).replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert digest(read_state_dict(tmp_path / "old.ckpt")) == digest(weights)


@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "model.", "module.", "module._orig_mod.", "_orig_mod.module.", "model._orig_mod."]
)
def test_names_that_wrappers_made_longer(tmp_path: Path, weights: dict[str, Tensor], prefix: str) -> None:
    longer = {prefix + name: value for name, value in weights.items()}
    save_file(longer, tmp_path / "model.safetensors")
    for path in (saved(tmp_path, {"state_dict": longer}), tmp_path / "model.safetensors"):
        assert digest(read_state_dict(path)) == digest(weights)


def test_a_network_with_a_part_called_model_keeps_its_names(tmp_path: Path) -> None:
    own = {"model.weight": torch.ones(2), "head.weight": torch.zeros(2)}
    assert read_state_dict(saved(tmp_path, own)).keys() == own.keys()


def test_the_best_weights_of_scnets_author_are_taken(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    """Its checkpoint.th has the last weights, the best ones (None before the first validation) and averages."""
    last = {f"module.{name}": torch.zeros_like(value) for name, value in weights.items()}
    best = {f"module.{name}": value for name, value in weights.items()}
    package = {"state": last, "best_nsdr": torch.tensor(8.9), "best_state": best, "epoch": 7, "ema_epoch_0": {}}
    assert digest(read_state_dict(saved(tmp_path, package))) == digest(weights)
    found = read_state_dict(saved(tmp_path, {**package, "best_state": None}))
    assert found.keys() == weights.keys()
    assert not any(value.any() for value in found.values())


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self._reduced = function, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


@pytest.mark.parametrize("function", [os.system, eval, getattr, np.load])
def test_what_runs_code_is_refused_beside_numbers(
    tmp_path: Path, weights: dict[str, Tensor], function: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hidden = defaultdict(list, {"sdr": [np.float64(1), _Runs(function, "touch run")]})
    path = saved(tmp_path, {"state_dict": weights, "all_metrics": hidden})
    with pytest.raises(MixstyleError) as caught:
        read_state_dict(path)
    assert caught.value.code == "damaged-file"
    assert function.__name__ in str(caught.value)
    assert [found.name for found in tmp_path.iterdir()] == ["model.ckpt"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    for device in ("cuda", "cuda:0", torch.device("cuda")):
        with pytest.raises(MixstyleError) as caught:
            load_separator(DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt", device=device)
        assert caught.value.code == "no-device"


@pytest.mark.parametrize("device", ["gpu", "mps", "cuda:x"])
def test_a_device_of_another_kind_is_refused(device: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        load_separator(DATA / "scnet_masked_a.yaml", DATA / "scnet_masked_a.ckpt", device=device)
    assert caught.value.code == "bad-setting"
