"""Checkpoints, encoders and separators that are damaged, lack something, or hold NaN: one line each, or passed over."""

import copy
import functools
import json
import pickle
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.small_encoder import write_encoder
from helpers.small_separator import write_separator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from mixstyle.cache.models.checkpoints import load_checkpoint, newest_checkpoint, save_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.pipeline.core.errors import GET_AGAIN, MixstyleError
from mixstyle.pipeline.core.torch_files import not_weights
from mixstyle.pipeline.separation.separator import load_separator
from mixstyle.pipeline.separation.separator_checkpoint import read_state_dict
from mixstyle.stages.common.chosen_encoder import damage_helped


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(MixstyleError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return caught.value.code


def content_of() -> dict[str, Any]:
    """What a checkpoint of a small encoder holds."""
    return copy.deepcopy(_content())


@functools.cache
def _content() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        loaded = load_encoder(write_encoder(Path(folder) / "encoder.safetensors"))
    told = {name: loaded.content[name] for name in ("encoder_config", "mel", "descriptor_names", "descriptors_version")}
    numbers = {"step": 3, "epoch": 1, "best_loss": 0.5, "training_seconds": 1.0}
    return {**told, **numbers, "encoder": loaded.encoder.state_dict(), "optimizer": {}, "settings": {}}


@pytest.mark.parametrize("data", [b"", b"\x80\x02", b"PK\x03\x04", b"junk" * 9, b"\x80\x02}q\x00."], ids=len)
def test_bytes_that_are_no_checkpoint_are_told_in_one_line(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "latest.pt"
    path.write_bytes(data)
    assert refused(lambda: load_checkpoint(path)) in ("damaged-file", "unknown-version")
    assert refused(lambda: load_encoder(path)) in ("damaged-file", "unknown-version")
    with pytest.raises(MixstyleError) as caught:
        load_checkpoint(path)
    assert not any(word in str(caught.value) for word in ("Error", "pop from", "index out of")), str(caught.value)
    save_checkpoint(tmp_path / "checkpoint_epoch_1.pt", content_of())
    found, torn = newest_checkpoint(tmp_path)
    assert found is not None
    assert (found[0].name, len(torn)) == ("checkpoint_epoch_1.pt", 1)


NO_WEIGHTS = {
    "nothing": (b"", "0 bytes"),
    "two bytes": (b"\x80\x02", "only 2 bytes"),
    "junk": (
        np.random.default_rng(0).bytes(5000).replace(b"\x80", b"\x81").replace(b"P", b"Q"),
        "another kind of file",
    ),
    "a web page": (b"<!DOCTYPE html><html>no such page</html>" * 9, "a web page"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git lfs pull"),
}
"""Bytes in the place of weights, and what is told of them."""


@pytest.mark.parametrize("suffix", [".pt", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("name", NO_WEIGHTS)
def test_a_file_without_weights_is_told_by_what_it_is_and_what_helps(name: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"mine{suffix}"
    data, kind = NO_WEIGHTS[name]
    path.write_bytes(data)
    for read in (load_encoder, read_state_dict):
        with pytest.raises(MixstyleError) as caught:
            read(path)
        told = str(caught.value)
        assert (caught.value.code, "\n" in told) == ("damaged-file", False)
        assert told.startswith(f"{path}: ")
        assert kind in told
        assert told.endswith(GET_AGAIN), "what helps"
        assert "run code" not in told, "a file of this kind holds no program that one might trust"


def test_whole_files_of_either_format_are_not_taken_for_other_kinds(tmp_path: Path) -> None:
    tensors = {"w": torch.zeros(1)}
    torch.save(tensors, tmp_path / "zip.pt")
    torch.save(tensors, tmp_path / "pickle.pt", _use_new_zipfile_serialization=False)
    save_file(tensors, tmp_path / "a.safetensors")
    for path in tmp_path.iterdir():
        assert not_weights(path) == ""
        assert set(read_state_dict(path)) == {"w"}


def test_a_damaged_checkpoint_of_the_own_training_is_told_with_the_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "best_model.pt"
    path.write_bytes(b"")
    with pytest.raises(MixstyleError) as caught, damage_helped([path], tmp_path):
        load_encoder(path)
    assert caught.value.remedy == ("verify", "--repair")
    assert GET_AGAIN not in str(caught.value)


def nan_weight(content: dict[str, Any]) -> None:
    next(value for value in content["encoder"].values() if value.is_floating_point()).view(-1)[0] = torch.nan


def test_training_goes_on_from_an_older_checkpoint_where_the_newest_lacks_something_or_holds_nan(
    tmp_path: Path,
) -> None:
    whole = content_of()
    save_checkpoint(tmp_path / "checkpoint_epoch_1.pt", whole)
    for name in ("optimizer", "encoder", "step", "training_seconds"):
        save_checkpoint(tmp_path / "latest.pt", {key: value for key, value in whole.items() if key != name})
        found, torn = newest_checkpoint(tmp_path)
        assert found is not None
        assert (found[0].name, name in torn[0]) == ("checkpoint_epoch_1.pt", True)
    nan_weight(whole)
    save_checkpoint(tmp_path / "latest.pt", whole)
    found, _ = newest_checkpoint(tmp_path)
    assert found is not None
    assert found[0].name == "checkpoint_epoch_1.pt"


DAMAGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "no mel": lambda content: content.pop("mel"),
    "no weights": lambda content: content.pop("encoder"),
    "no sizes": lambda content: content.pop("encoder_config"),
    "sizes of another kind": lambda content: content.update(encoder_config=[1, 2]),
    "a size too many": lambda content: content["encoder_config"].update(legs=4),
    "a weight too many": lambda content: content["encoder"].update(more=torch.zeros(1)),
    "a weight missing": lambda content: content["encoder"].popitem(),
    "a weight of another shape": lambda content: content["encoder"].update(
        {next(reversed(content["encoder"])): torch.zeros(3, 1, 2)}
    ),
    "weights that are none": lambda content: content.update(encoder="none"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_an_encoder_that_lacks_something_is_told_in_one_line(name: str, tmp_path: Path) -> None:
    content = content_of()
    DAMAGES[name](content)
    path = tmp_path / "best_model.pt"
    save_checkpoint(path, content)
    assert refused(lambda: load_encoder(path)) == "damaged-file"


def test_encoders_with_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    content = content_of()
    nan_weight(content)
    save_checkpoint(tmp_path / "nan.pt", content)
    assert refused(lambda: load_encoder(tmp_path / "nan.pt")) == "not-finite"
    exported = write_encoder(tmp_path / "encoder.safetensors")
    with safe_open(exported, "pt") as file:
        told = json.loads(file.metadata()["mixstyle"])
    tensors = load_file(exported)
    del told["sha256"]  # as versions before wrote it
    name = next(name for name, value in tensors.items() if value.is_floating_point())
    tensors[name].view(-1)[0] = torch.inf
    save_file(tensors, exported, {"mixstyle": json.dumps(told)})
    assert refused(lambda: load_encoder(exported)) == "not-finite"


@pytest.mark.parametrize("kind", ["running_mean", "running_var", "descriptor_center", "descriptor_scale"])
def test_encoders_whose_buffers_are_not_finite_are_refused(tmp_path: Path, kind: str) -> None:
    content = content_of()
    name = next(name for name in content["encoder"] if name.endswith(kind))
    content["encoder"][name].view(-1)[-1] = torch.nan
    save_checkpoint(tmp_path / "latest.pt", content)
    assert refused(lambda: load_encoder(tmp_path / "latest.pt")) == "not-finite"
    found, torn = newest_checkpoint(tmp_path)
    assert (found, len(torn)) == (None, 1)


def test_a_training_does_not_go_on_from_an_optimizer_that_is_not_finite(tmp_path: Path) -> None:
    content = content_of()
    content["optimizer"] = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.tensor([0.0, torch.nan])}}}
    save_checkpoint(tmp_path / "latest.pt", content)
    found, torn = newest_checkpoint(tmp_path)
    assert (found, len(torn)) == (None, 1)
    assert "optimizer.state.0.exp_avg" in torn[0]
    load_encoder(tmp_path / "latest.pt")  # the encoder itself is whole


def test_each_tensor_of_a_separator_is_looked_at(tmp_path: Path) -> None:
    """Whatever it is called: there is none that may hold NaN."""
    config, checkpoint = write_separator(tmp_path)
    state = load_file(checkpoint)
    names = [name for name, value in state.items() if value.is_floating_point()]
    for name in (names[0], names[len(names) // 2], names[-1]):
        value = state[name].clone()
        value.view(-1)[-1] = torch.nan
        save_file({**state, name: value}, checkpoint)
        with pytest.raises(MixstyleError) as caught:
            load_separator(config, checkpoint)
        assert (caught.value.code, name in str(caught.value)) == ("not-finite", True)


def test_separators_with_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    config, checkpoint = write_separator(tmp_path)
    load_separator(config, checkpoint)
    state = load_file(checkpoint)
    next(iter(state.values())).view(-1)[0] = torch.nan
    save_file(state, checkpoint)
    assert refused(lambda: load_separator(config, checkpoint)) == "not-finite"


@pytest.mark.parametrize("read", [load_checkpoint, read_state_dict], ids=lambda read: read.__name__)
def test_files_that_hold_a_program_are_refused_without_a_word_of_torchs(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    """torch warns of them on lines of its own, and tells how to run what is in them."""
    path = tmp_path / "x.pt"

    def script() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))  # pyright: ignore[reportAttributeAccessIssue]

    for write in (script, lambda: torch.save(torch.nn.Linear(2, 2), path), lambda: path.write_bytes(pickle.dumps({}))):
        write()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(MixstyleError) as caught:
                read(path)
        assert caught.value.code == "damaged-file"
        assert "\x1b" not in str(caught.value)
        assert "weights_only" not in str(caught.value)


ANOTHER = """
import sys
from pathlib import Path
path = Path(sys.argv[1])
print("begins", flush=True)
while path.parent.exists():
    if path.exists():
        path.write_bytes(b"another writer's")
"""


def test_a_second_writer_where_there_are_no_locks_is_told_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    path, content = folder / "latest.pt", {"encoder": {str(i): torch.rand(1000) for i in range(200)}}
    save_checkpoint(path, {"step": 1})
    other = subprocess.Popen(
        [sys.executable, "-c", ANOTHER, str(folder / ".latest.pt.partial")], stdout=subprocess.PIPE
    )
    assert other.stdout is not None
    other.stdout.readline()
    told = []
    try:
        for _ in range(20):
            try:
                save_checkpoint(path, content)
            except MixstyleError as error:
                told.append(error)
    finally:
        other.kill()
        other.wait()
    assert told, "the other one never came between"
    for error in told:
        assert error.code == "cannot-write"
        assert "another process" in error.message
        assert not any(word in error.message for word in ("Pytorch", "miniz", "central directory"))
