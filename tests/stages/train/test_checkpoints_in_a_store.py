"""A training whose checkpoints are behind s3://: the weights of one in a folder, gone on from on another machine."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest
import torch
from helpers.s3_server import BUCKET, objects, reached, served
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, settings_of

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.cache.storage.kept_folder import RemoteFolder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.export import export
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.kept import trained_folder
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import train
from mixstyle.stages.train.status import train_status
from mixstyle.stages.verify import verify

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("training")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    features(settings_of(folder / "inputs"))
    with served(folder / "s3") as address, reached(address):
        yield folder


def on_machine(shared: Path, name: str, prefix: str, **changes: object) -> Settings:
    """The settings of one of several machines that see one store and the same stems."""
    return settings_of(
        shared / name,
        checkpoint_dir=f"s3://{BUCKET}/{prefix}",
        stems_cache_dir=str(shared / name / "cache"),
        **changes,
    )


def damage(prefix: str, name: str) -> None:
    """Flips a bit of the object that the last manifest names so; the one before may name another."""
    found = objects(prefix)
    manifest = json.loads(found[max(key for key in found if key.startswith("manifest-"))])
    stem, _, suffix = name.rpartition(".")
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    path = f"{BUCKET}/{prefix}/{stem}.{manifest['files'][name]['sha256'][:16]}.{suffix}"
    data = bytearray(fs.cat_file(path))
    data[len(data) // 2] ^= 4
    fs.pipe_file(path, bytes(data))


@pytest.mark.slow
def test_another_machine_goes_on_to_the_weights_of_an_unbroken_run(shared: Path, tmp_path: Path) -> None:
    whole = train(settings_of(shared / "whole"))
    first = on_machine(shared, "first", "run", max_steps=3)
    train(first)
    second = on_machine(shared, "second", "run")
    ended = train(second)
    expected, found = load_checkpoint(whole.checkpoint), load_checkpoint(ended.checkpoint)
    assert found["step"] == expected["step"] > 3
    for name, value in expected["encoder"].items():
        assert torch.equal(found["encoder"][name], value), name
    names = {name.partition(".")[0] for name in objects("run")}
    assert {"latest", "best_model", "final_model", "checkpoint_epoch_3", "loss", "settings"} <= names
    assert sum(name.startswith("manifest-") for name in objects("run")) == 2

    third = on_machine(shared, "third", "run")
    assert train_status(third, None, None).state == "done"
    export(third, tmp_path / "there.safetensors")
    export(settings_of(shared / "whole"), tmp_path / "here.safetensors")
    assert (tmp_path / "there.safetensors").is_file()
    assert train(third).steps == expected["step"]
    assert verify(third).damages == ()


@pytest.mark.slow
def test_what_is_damaged_there_is_named_and_an_older_checkpoint_is_gone_on_from(shared: Path) -> None:
    settings = on_machine(shared, "damaged", "damaged", num_epochs=2)
    train(settings)
    for name in ("latest.pt", "final_model.pt"):
        damage("damaged", name)
    found = verify(on_machine(shared, "looks", "damaged", num_epochs=2))
    assert [path.path.name for path in found.damages] == ["final_model.pt", "latest.pt"]
    assert train_status(on_machine(shared, "status", "damaged", num_epochs=2), None, None).state == "partly done"
    other = on_machine(shared, "other", "damaged", num_epochs=2)
    again = train(other)
    assert again.steps == load_checkpoint(again.checkpoint)["step"]
    assert verify(other).damages == ()


@pytest.mark.slow
def test_of_two_writers_the_second_is_told_and_nothing_is_lost(shared: Path) -> None:
    one = on_machine(shared, "one", "two", num_epochs=1)
    train(one)
    writers = []
    for name in ("a", "b"):
        folder = RemoteFolder(f"s3://{BUCKET}/two", shared / name)
        folder.fetch()
        (folder.folder / "loss.csv").write_text(f"step,{name}\n")
        writers.append(folder)
    writers[0].send()
    with pytest.raises(MixstyleError) as caught:
        writers[1].send()
    assert caught.value.code == "in-use"
    reader = trained_folder(replace(one))
    reader.fetch()
    assert (reader.folder / "loss.csv").read_text() == "step,a\n"
