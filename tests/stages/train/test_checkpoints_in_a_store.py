"""A training whose checkpoints are behind s3://: the weights of one in a folder, gone on from on another machine."""

import json
import os
import signal
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
from mixstyle.cache.storage.remote_folder import RemoteFolder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.export import export
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.settings.remote_folders import trained_folder
from mixstyle.stages.train.log import TrainLog
from mixstyle.stages.train.stage import TrainSummary, train
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


@pytest.fixture(scope="module")
def whole(shared: Path) -> dict[str, torch.Tensor]:
    """The weights that an unbroken training in a folder ends with."""
    return weights(train(settings_of(shared / "whole")))


def weights(ended: TrainSummary) -> dict[str, torch.Tensor]:
    return load_checkpoint(ended.checkpoint)["encoder"]


def same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


def last_manifest(prefix: str) -> str:
    return max(name for name in objects(prefix) if name.startswith("manifest-"))


def put(prefix: str, name: str, data: bytes) -> None:
    fsspec.filesystem("s3", skip_instance_cache=True).pipe_file(f"{BUCKET}/{prefix}/{name}", data)


def damage(prefix: str, name: str) -> None:
    """Flips a bit of the object that the last manifest names so; the one before may name another."""
    found = objects(prefix)
    manifest = json.loads(found[last_manifest(prefix)])
    stem, _, suffix = name.rpartition(".")
    stored = f"{stem}.{manifest['files'][name]['sha256'][:16]}.{suffix}"
    data = bytearray(found[stored])
    data[len(data) // 2] ^= 4
    put(prefix, stored, bytes(data))


@pytest.mark.slow
def test_another_machine_goes_on_to_the_weights_of_an_unbroken_run(
    shared: Path, whole: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    first = on_machine(shared, "first", "run", max_steps=3)
    train(first)
    second = on_machine(shared, "second", "run")
    ended = train(second)
    assert ended.steps == 6
    assert same(weights(ended), whole)
    names = {name.partition(".")[0] for name in objects("run")}
    assert {"latest", "best_model", "final_model", "checkpoint_epoch_3", "loss", "settings"} <= names
    assert sum(name.startswith("manifest-") for name in objects("run")) == 2

    third = on_machine(shared, "third", "run")
    assert train_status(third, None, None).state == "done"
    export(third, tmp_path / "there.safetensors")
    export(settings_of(shared / "whole"), tmp_path / "here.safetensors")
    assert (tmp_path / "there.safetensors").is_file()
    assert train(third).steps == 6
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


@pytest.mark.slow
def test_rebuild_trains_anew_whatever_is_there(shared: Path, whole: dict[str, torch.Tensor]) -> None:
    train(on_machine(shared, "rebuilt", "rebuilt", seed=5, num_epochs=1))
    other = on_machine(shared, "rebuilds", "rebuilt")
    with pytest.raises(MixstyleError) as caught:
        train(other)
    assert caught.value.code == "stale"
    assert same(weights(train(other, rebuild=True)), whole)
    names = {name.partition(".")[0] for name in objects("rebuilt")}
    assert "checkpoint_epoch_1" in names
    for name in ("latest.pt", "settings.json"):
        damage("rebuilt", name)
    put("rebuilt", last_manifest("rebuilt"), b"{")
    third = on_machine(shared, "rebuilds again", "rebuilt")
    assert same(weights(train(third)), whole), "checkpoints tell what they were made with where the settings are lost"
    assert same(weights(train(third, rebuild=True)), whole)
    assert verify(on_machine(shared, "rebuilt looks", "rebuilt")).damages == ()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_training_that_is_stopped_keeps_the_step_that_it_was_at(
    shared: Path, whole: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    prefix = f"stopped-{number.name}"
    first = on_machine(shared, f"{prefix} first", prefix, save_every_steps=100)
    write = TrainLog.write

    def pressed(log: TrainLog, row: dict, *rest: object) -> None:
        write(log, row, *rest)  # type: ignore[arg-type]
        if row["step"] == 3:  # in the middle of the second epoch
            os.kill(os.getpid(), number)

    before = signal.signal(number, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(TrainLog, "write", pressed)
            with pytest.raises(KeyboardInterrupt):
                train(first)
    finally:
        signal.signal(number, before)
    second = on_machine(shared, f"{prefix} second", prefix, save_every_steps=100)
    kept = trained_folder(second)
    kept.fetch("latest.pt")
    assert load_checkpoint(kept.folder / "latest.pt")["step"] == 3
    assert train_status(second, None, None).state == "partly done"
    assert same(weights(train(second)), whole)


@pytest.mark.slow
def test_repair_forgets_what_is_damaged_and_train_makes_it_again(shared: Path, whole: dict[str, torch.Tensor]) -> None:
    train(on_machine(shared, "mended", "mended"))
    before = sorted(json.loads(objects("mended")[last_manifest("mended")])["files"])
    for name in ("latest.pt", "final_model.pt", "loss.csv"):
        damage("mended", name)
    other = on_machine(shared, "mends", "mended")
    found = verify(other, repair=True)
    assert sorted((one.path.name, one.repaired) for one in found.damages) == [
        ("final_model.pt", True),
        ("latest.pt", True),
        ("loss.csv", True),
    ]
    left = json.loads(objects("mended")[last_manifest("mended")])["files"]
    assert sorted(left) == sorted({*before} - {"latest.pt", "final_model.pt", "loss.csv"})
    third = on_machine(shared, "mended third", "mended")
    assert verify(third).damages == ()
    assert same(weights(train(third)), whole)
    assert verify(other).damages == ()
    assert train_status(on_machine(shared, "mended fourth", "mended"), None, None).state == "done"


@pytest.mark.slow
def test_a_damaged_manifest_costs_what_was_sent_last(
    shared: Path, whole: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    train(on_machine(shared, "torn", "torn", max_steps=5))
    name = last_manifest("torn")
    put("torn", name, objects("torn")[name][:-20])
    (damaged,) = verify(on_machine(shared, "torn looks", "torn")).damages
    assert damaged.remake == ("train",)
    other = on_machine(shared, "torn other", "torn")
    status = train_status(other, None, None)
    assert any(name in problem for problem in status.problems)
    capsys.readouterr()
    assert same(weights(train(other)), whole)
    assert f"{name}: damaged" in capsys.readouterr().err
    assert verify(other).damages == ()

    # the only one: nothing tells what is there, and only --rebuild may take its place
    train(on_machine(shared, "lost", "lost", num_epochs=1))
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    for each in sorted(name for name in objects("lost") if name.startswith("manifest-"))[:-1]:
        fs.rm_file(f"{BUCKET}/lost/{each}")
    put("lost", last_manifest("lost"), b"nothing")
    lost = on_machine(shared, "lost other", "lost")
    before = objects("lost")
    with pytest.raises(MixstyleError) as caught:
        train(lost)
    assert caught.value.code == "damaged-file"
    assert objects("lost") == before
    assert same(weights(train(lost, rebuild=True)), whole)


@pytest.mark.slow
def test_two_processes_send_what_they_keep_in_a_folder(shared: Path) -> None:
    expected = weights(train(settings_of(shared / "whole of two", processes=2)))
    train(on_machine(shared, "two begin", "of-two", processes=2, max_steps=3))
    ended = train(on_machine(shared, "two end", "of-two", processes=2))
    assert ended.steps == 6
    assert same(weights(ended), expected)
    assert verify(on_machine(shared, "two look", "of-two", processes=2)).damages == ()
