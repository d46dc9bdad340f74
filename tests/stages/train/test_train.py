"""Training on a small cache: what a step draws, going on after a kill, and what is refused."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.digests import digest
from helpers.killed import run_until
from helpers.numbers import numbers
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, diverge, profile, rows_of, settings_of

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import BEST, load_checkpoint, newest_checkpoint, save_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.stem_store.stem_cache import CachedTrack, StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.losses import info_nce
from mixstyle.pipeline.encoder.objectives.registry import objectives
from mixstyle.pipeline.mixing.mix_chain import MixChainSettings, apply_mix_chain
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.data import Item, Items, Key, Recipe, load_batches
from mixstyle.stages.train.log import COLUMNS, read_loss, told_row
from mixstyle.stages.train.readers import RandomReader
from mixstyle.stages.train.stage import train
from mixstyle.stages.train.status import train_status


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    features(settings_of(folder / "inputs"))
    return folder


def reader(settings: Settings, frames: int, purpose: str = "train") -> RandomReader:
    cache, store = open_described_stems(settings)
    tracks = [track for track in cache.tracks if track.split == purpose]
    return RandomReader(
        Items(
            cache,
            tracks,
            store.values(),
            Recipe(MixChainSettings(0.5, 9.0), objectives()["same-song"]),
            seed=3,
            batch_size=2,
            clip_frames=frames,
            describe_here=True,
            purpose=purpose,  # type: ignore[arg-type]
        )
    )


def item_of(source: RandomReader, key: Key) -> Item:
    return source.data[source.request(key)]


def track_of(source: RandomReader, key: Key) -> CachedTrack:
    return source.data.tracks[source.request(key).own]


def test_a_batch_is_the_same_for_any_number_of_workers(shared: Path) -> None:
    data = reader(settings_of(shared / "data"), 44_100)
    steps = [(0, 0), (0, 1), (1, 0), (5, 1)]
    runs = [list(load_batches(data, steps, workers)) for workers in (0, 1, 2)]
    for alone, one, two in zip(*runs, strict=True):
        assert alone.track_ids == one.track_ids == two.track_ids
        assert torch.equal(alone.stems, one.stems)
        assert torch.equal(one.stems, two.stems)
        assert torch.equal(alone.descriptors, one.descriptors)
        assert torch.equal(one.descriptors, two.descriptors)
    later = list(load_batches(data, steps[2:], 1))
    assert torch.equal(later[1].stems, runs[0][3].stems), "starting later changes what a step sees"
    assert not torch.equal(runs[0][0].stems, runs[0][2].stems), "epochs should differ"


def test_an_epoch_visits_every_track_once(shared: Path) -> None:
    source = reader(settings_of(shared / "data"), 44_100)
    assert source.data.steps_per_epoch == 2
    seen = [track_of(source, (0, step, item)).track_id for step in range(2) for item in range(2)]
    assert sorted(seen) == sorted(track.track_id for track in source.data.tracks)
    assert {track_of(source, (0, 2, item)).track_id for item in range(2)} <= set(seen)


def test_anchor_positive_and_negative_are_what_they_should_be(shared: Path) -> None:
    settings = settings_of(shared / "data")
    frames = round(CLIP_S * 44_100)
    source = reader(settings, frames)
    item = item_of(source, (0, 0, 0))
    track = track_of(source, (0, 0, 0))
    clips = [source.data.cache.read_clip(clip) for clip in track.clips]
    stems = item.stems.numpy()
    found = [next(i for i, clip in enumerate(clips) if np.array_equal(clip, stems[role])) for role in (0, 1)]
    assert found[0] != found[1], "the positive should be another clip of the song"
    np.testing.assert_array_equal(stems[2], apply_mix_chain(stems[0], item.chains[2]))
    assert not np.array_equal(stems[2], stems[0])
    # whole clips take their descriptors from the store, the negative is described again
    store = FeatureStore.open(settings.features.features_path)
    rows = store.rows([track.clips[i].row for i in found])
    np.testing.assert_array_equal(item.descriptors[:2].numpy(), rows)
    # described in batches of other sizes: sums of float32 squares in another order move a level by 6e-5 dB
    torch.testing.assert_close(item.descriptors[2:], describe(item.stems[2:]), atol=1e-4, rtol=0)


def test_crops_are_described_as_crops(shared: Path) -> None:
    item = item_of(reader(settings_of(shared / "data"), 44_100), (0, 1, 1))
    assert item.stems.shape[-1] == 44_100
    # described in batches of other sizes: sums of float32 squares in another order move a level by 6e-5 dB
    torch.testing.assert_close(item.descriptors, describe(item.stems), atol=1e-4, rtol=0)


@pytest.fixture(scope="module")
def unbroken(shared: Path) -> Path:
    train(settings_of(shared / "unbroken"))
    return shared / "unbroken"


@pytest.fixture(scope="module")
def two_epochs(shared: Path) -> Path:
    train(settings_of(shared / "two_epochs", num_epochs=2))
    return shared / "two_epochs"


def test_training_writes_what_it_says(unbroken: Path) -> None:
    names = {path.name for path in (unbroken / "ckpt").iterdir()}
    assert names >= {"final_model.pt", "best_model.pt", "latest.pt", "loss.csv", "settings.json"}
    assert names >= {f"checkpoint_epoch_{epoch}.pt" for epoch in (1, 2, 3)}
    rows = rows_of(unbroken)
    assert [int(row["step"]) for row in rows] == list(range(1, 7))
    assert [row["validation_loss"] != "" for row in rows] == [False, True] * 3
    assert list((unbroken / "logs").glob("events.out.tfevents.*"))
    best = min(float(row["validation_loss"]) for row in rows if row["validation_loss"])
    # the table has nine digits: half a unit in the last
    assert load_checkpoint(unbroken / "ckpt" / "best_model.pt")["loss"] == pytest.approx(best, rel=5.1e-9)
    loaded = load_encoder(unbroken / "ckpt" / "final_model.pt")
    stems = torch.randn(2, 4, 2, 66_150) * 0.1
    assert loaded.encoder(loaded.mel(stems), describe(stems)).shape == (2, 8)
    assert not torch.equal(loaded.encoder.descriptor_center, torch.zeros_like(loaded.encoder.descriptor_center))


def same_end(a: Path, b: Path) -> None:
    first, second = (load_checkpoint(folder / "ckpt" / "final_model.pt")["encoder"] for folder in (a, b))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (a / "ckpt" / "loss.csv").read_bytes() == (b / "ckpt" / "loss.csv").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["loss.csv", "latest.pt", "checkpoint_epoch_1.pt"])
def test_a_killed_run_ends_as_an_unbroken_one(shared: Path, unbroken: Path, moment: str) -> None:
    folder = shared / f"killed_{moment.partition('.')[0]}"
    config = profile(folder, workers=1)
    run_until(folder / "ckpt" / moment, "train", "--config", str(config))
    assert len(rows_of(folder)) < 6, "the run should have been killed in the middle"
    command = [sys.executable, "-m", "mixstyle.stages", "train", "--config", str(config)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    same_end(folder, unbroken)


def test_more_epochs_go_on_and_equal_a_longer_run(shared: Path, unbroken: Path, two_epochs: Path) -> None:
    shutil.copytree(two_epochs, shared / "longer")
    summary = train(settings_of(shared / "longer", num_epochs=3))
    assert summary.steps == 6
    same_end(shared / "longer", unbroken)
    assert train(settings_of(shared / "longer", num_epochs=3)).loss is None, "nothing was left to do"


def test_a_torn_checkpoint_is_passed_over(
    shared: Path, unbroken: Path, two_epochs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two_epochs, shared / "torn")
    latest = shared / "torn" / "ckpt" / "latest.pt"
    latest.write_bytes(latest.read_bytes()[:-2000])
    found, (why,) = newest_checkpoint(latest.parent)
    assert found is not None
    assert (found[0].name, str(latest) in why) == ("checkpoint_epoch_2.pt", True)
    train(settings_of(shared / "torn", num_epochs=3))
    out, errors = capsys.readouterr()
    assert why in errors
    assert len(out.splitlines()) == 1, "the result alone: how the work goes is in the error output"
    same_end(shared / "torn", unbroken)


FOREIGN = {
    "weights of another program": lambda content: {"conv.weight": torch.zeros(2, 2)},
    "no mapping": lambda content: [1, 2],
    "no encoder": lambda content: {name: value for name, value in content.items() if name != "encoder"},
    "another network": lambda content: {**content, "encoder": {"conv.weight": torch.zeros(2, 2)}},
    "a weight of another shape": lambda content: {
        **content,
        "encoder": {name: value.reshape(-1)[:1] for name, value in content["encoder"].items()},
    },
    "no optimiser": lambda content: {**content, "optimizer": {}},
    "an optimiser's mean of another shape": lambda content: {**content, "optimizer": misshapen(content["optimizer"])},
    "a loss that is none": lambda content: {**content, "best_loss": "low"},
}


def misshapen(optimizer: dict[str, Any]) -> dict[str, Any]:
    """An optimiser's state whose last mean is of another shape, which torch itself takes until the first step."""
    state = optimizer["state"]
    last = max(state)
    return {**optimizer, "state": {**state, last: {**state[last], "exp_avg": torch.zeros(3)}}}


@pytest.mark.parametrize("foreign", FOREIGN)
def test_a_latest_checkpoint_of_another_network_is_passed_over(
    shared: Path, unbroken: Path, two_epochs: Path, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    folder = shared / f"foreign {foreign}"
    shutil.copytree(two_epochs, folder)
    latest = folder / "ckpt" / "latest.pt"
    torch.save(FOREIGN[foreign](load_checkpoint(latest)), latest)
    train(settings_of(folder, num_epochs=3))
    errors = capsys.readouterr().err
    assert sum(str(latest) in line and "skipped" in line for line in errors.splitlines()) == 1
    same_end(folder, unbroken)


def test_a_training_with_checkpoints_of_another_network_alone_is_refused_and_keeps_them(
    shared: Path, two_epochs: Path
) -> None:
    folder = shared / "all foreign"
    shutil.copytree(two_epochs, folder)
    for path in (folder / "ckpt").glob("*.pt"):
        torch.save(FOREIGN["another network"](load_checkpoint(path)), path)
    before = {path: path.read_bytes() for path in (folder / "ckpt").glob("*.pt")}
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(folder, num_epochs=3))
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("train", "--rebuild"))
    assert {path: path.read_bytes() for path in (folder / "ckpt").glob("*.pt")} == before


def test_training_goes_on_from_its_best_model_where_nothing_else_is_whole(shared: Path, unbroken: Path) -> None:
    folder = shared / "from_best"
    settings = settings_of(folder)
    shutil.copytree(unbroken / "ckpt", folder / "ckpt")
    for path in (folder / "ckpt").glob("*.pt"):
        if path.name != BEST:
            os.truncate(path, path.stat().st_size - 2000)
    train(settings)
    same_end(folder, unbroken)
    found, _ = newest_checkpoint(folder / "ckpt")
    assert found is not None
    assert found[0].name == "latest.pt", "it is whole again"


def test_what_a_run_left_that_was_killed_at_its_end_is_removed(shared: Path, unbroken: Path) -> None:
    """The last step is saved twice: a run that goes on after the second one was cut short has no step left to do."""
    folder = shared / "killed_at_its_end"
    shutil.copytree(unbroken / "ckpt", folder / "ckpt")
    (folder / "ckpt" / "final_model.pt").unlink()
    names = (".latest.pt.partial", ".checkpoint_epoch_2.pt.partial", ".mine.pt.partial")
    for name in names:
        (folder / "ckpt" / name).write_bytes((unbroken / "ckpt" / "latest.pt").read_bytes()[:-2000])
    train(settings_of(folder))
    assert [name for name in names if (folder / "ckpt" / name).exists()] == [".mine.pt.partial"]
    same_end(folder, unbroken)


def state_of(folder: Path) -> str:
    """What `mixstyle status` says of a training, in a word."""
    settings = settings_of(folder)
    return train_status(settings, *open_described_stems(settings)).state


def test_a_best_model_that_is_gone_is_made_again(
    shared: Path, unbroken: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "no_best"
    shutil.copytree(unbroken / "ckpt", folder / "ckpt")
    best = load_checkpoint(folder / "ckpt" / BEST)
    (folder / "ckpt" / BEST).unlink()
    assert state_of(folder) == "partly done"
    train(settings_of(folder))
    again = load_checkpoint(folder / "ckpt" / BEST)
    assert again.keys() == best.keys()
    assert all(torch.equal(again["encoder"][name], weights) for name, weights in best["encoder"].items())
    assert {name: again[name] for name in ("step", "loss")} == {name: best[name] for name in ("step", "loss")}
    assert state_of(folder) == "done"
    (folder / "ckpt" / BEST).unlink()
    for path in (folder / "ckpt").glob("*.pt"):  # as if the best epoch had been one that no other file is of
        content = load_checkpoint(path)
        del content["version"]
        save_checkpoint(path, {**content, "best_loss": best["loss"] - 1})
    capsys.readouterr()
    train(settings_of(folder))
    assert not (folder / "ckpt" / BEST).exists()
    said = capsys.readouterr().err
    assert BEST in said
    assert "mixstyle train --rebuild" in said
    assert state_of(folder) == "done"


def test_a_best_model_of_the_last_epoch_is_made_again_of_the_final_one(shared: Path) -> None:
    """The final model is saved with the mean of the training's loss: loss.csv tells that its epoch was the best."""
    folder = shared / "best_is_last"
    train(settings_of(folder, num_epochs=1, checkpoint_every=5))
    best = load_checkpoint(folder / "ckpt" / BEST)
    assert load_checkpoint(folder / "ckpt" / "final_model.pt")["loss"] != best["loss"]
    (folder / "ckpt" / BEST).unlink()
    train(settings_of(folder, num_epochs=1, checkpoint_every=5))
    again = load_checkpoint(folder / "ckpt" / BEST)
    assert all(torch.equal(again["encoder"][name], weights) for name, weights in best["encoder"].items())
    differing = {name for name in best if name not in ("encoder", "optimizer") and str(again[name]) != str(best[name])}
    assert differing <= {"training_seconds"}


@pytest.mark.parametrize("there", [(BEST,), pytest.param((BEST, "checkpoint_epoch_1.pt"), marks=pytest.mark.slow)])
def test_a_run_that_ended_between_two_files_of_an_epoch_ends_as_an_unbroken_one(
    shared: Path, there: tuple[str, ...]
) -> None:
    whole, folder = shared / "one_epoch", shared / f"between_{len(there)}"
    train(settings_of(whole, num_epochs=1))
    shutil.copytree(whole / "ckpt", folder / "ckpt")
    for path in (folder / "ckpt").glob("*.pt"):
        if path.name not in there:
            path.unlink()
    train(settings_of(folder, num_epochs=1))
    same_end(folder, whole)
    for name in ("latest.pt", "final_model.pt", "checkpoint_epoch_1.pt", BEST):
        ours, theirs = (load_checkpoint(place / "ckpt" / name) for place in (folder, whole))
        assert (ours["step"], ours["loss"], ours["best_loss"]) == (theirs["step"], theirs["loss"], theirs["best_loss"])


def test_no_model_is_lost_to_a_training_that_cannot_go_on(shared: Path, unbroken: Path) -> None:
    """A best model of another version of the format, say, beside checkpoints that are damaged."""
    folder = shared / "nothing_whole"
    settings = settings_of(folder)
    shutil.copytree(unbroken / "ckpt", folder / "ckpt")
    for path in (folder / "ckpt").glob("*.pt"):
        os.truncate(path, path.stat().st_size - 2000)
    torch.save({"version": 99}, folder / "ckpt" / BEST)
    (folder / "ckpt" / "mine.pt").write_bytes(b"a file of somebody's own")
    before = {path: path.read_bytes() for path in (folder / "ckpt").iterdir()}
    with pytest.raises(MixstyleError) as caught:
        train(settings)
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("train", "--rebuild"))
    assert {path: path.read_bytes() for path in before} == before
    train(settings, rebuild=True)
    same_end(folder, unbroken)
    assert (folder / "ckpt" / "mine.pt").is_file()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x94\xff" * 40, id="no text"),
        pytest.param(b"step,train_loss,validation_loss\n1,2.x,\n", id="no number", marks=pytest.mark.slow),
    ],
)
def test_a_damaged_log_of_losses_is_told_and_can_be_deleted(shared: Path, unbroken: Path, data: bytes) -> None:
    folder = shared / f"losses-{len(data)}"
    train(settings_of(folder, max_steps=1))
    (folder / "ckpt" / "loss.csv").write_bytes(data)
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(folder))
    assert (caught.value.code, caught.value.remedy) == ("damaged-file", ("train", "--rebuild"))
    assert (folder / "ckpt" / "loss.csv").read_bytes() == data
    (folder / "ckpt" / "loss.csv").unlink()
    train(settings_of(folder))
    steps = [row["step"] for row in rows_of(unbroken)]
    assert [row["step"] for row in rows_of(folder)] == steps[1:]


def test_a_row_of_losses_that_a_killed_run_left_torn_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "loss.csv"
    for torn in ("2", "2,1.", "2,1.5,0.2,3.1e-"):
        path.write_text("step,train_loss,validation_loss,learning_rate\n1,2.5,,3.1e-05\n" + torn)
        assert [row["step"] for row in read_loss(path)] == ["1"]


def test_changed_settings_are_named(shared: Path, unbroken: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(unbroken, temperature=0.2))
    assert (caught.value.code, caught.value.remedy) == ("stale", ("train", "--rebuild"))
    assert "train.temperature: 0.1 -> 0.2" in str(caught.value)
    assert (unbroken / "ckpt" / "final_model.pt").is_file()


@pytest.mark.parametrize("damage", [b"", b'{"settings": {', None])
def test_checkpoints_tell_what_they_were_made_with_where_the_settings_are_lost(
    shared: Path, unbroken: Path, damage: bytes | None
) -> None:
    folder = shared / f"lost {damage}"
    shutil.copytree(unbroken / "ckpt", folder / "ckpt")
    stored, whole = folder / "ckpt" / "settings.json", (unbroken / "ckpt" / "settings.json").read_bytes()
    before = digest(unbroken / "ckpt")
    if damage is None:
        stored.unlink()
    else:
        stored.write_bytes(damage)
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(folder, temperature=0.2))
    assert (caught.value.code, caught.value.remedy) == ("stale", ("train", "--rebuild"))
    train(settings_of(folder))
    assert stored.read_bytes() == whole
    assert digest(folder / "ckpt") == before


def test_a_loss_that_is_not_finite_stops_and_is_written_down(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverge(monkeypatch)
    settings = settings_of(shared / "diverging", num_epochs=30)
    with pytest.raises(MixstyleError) as error:
        train(settings)
    assert error.value.code == "not-finite"
    (path,) = (shared / "diverging" / "ckpt").glob("not_finite_step_*.json")
    assert str(path) in str(error.value)
    content = json.loads(path.read_text())
    assert len(content["tracks"]) == len(content["remixes"]) == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"batch_size": 5}, "train.batch_size=5"),
        ({"clip_duration_s": 3.0}, "train.clip_duration_s=3.0"),
        ({"clip_duration_s": 0.1}, "train.clip_duration_s=0.1"),
        ({"hop_length": 500}, "hop_length=500"),
        ({"n_mels": 600}, "n_mels=600"),
        ({"objective": "same-singer"}, "same-song, shared-chain"),
    ],
)
def test_settings_that_cannot_work_are_refused(shared: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared / "refused", **changes))
    assert caught.value.code == "bad-setting"
    assert named in str(caught.value)
    assert not list((shared / "refused" / "ckpt").glob("*.pt"))


def test_a_run_needs_descriptors_and_tells_where_no_validation_judges(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_cache(tmp_path / "stems", tracks=4, clips=2, clip_s=CLIP_S, validation=0, per_shard=4)
    settings = settings_of(tmp_path / "run", num_epochs=1)
    with pytest.raises(MixstyleError) as caught:
        train(settings)
    assert (caught.value.code, caught.value.remedy) == ("step-missing", ("features",))
    features(settings)
    assert StemCache(tmp_path / "stems").complete
    summary = train(settings)
    assert BEST in capsys.readouterr().err
    assert summary.best_loss == pytest.approx(np.mean([float(r["train_loss"]) for r in rows_of(tmp_path / "run")]))


@pytest.mark.parametrize(
    "number",
    [pytest.param(signal.SIGINT, id="Ctrl-C"), pytest.param(signal.SIGTERM, id="SIGTERM", marks=pytest.mark.slow)],
)
def test_ctrl_c_saves_and_the_run_goes_on(
    shared: Path, unbroken: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, number: int
) -> None:
    before = signal.signal(number, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(number, before))
    import mixstyle.pipeline.encoder.objectives.same_song as module

    calls = iter(range(100))

    def pressed(*arguments: object) -> object:
        if next(calls) == 2:
            os.kill(os.getpid(), number)  # in the middle of a step
        return info_nce(*arguments)  # type: ignore[arg-type]

    folder = shared / f"interrupted {number}"
    settings = settings_of(folder, save_every_steps=100, validate_every=100)
    with monkeypatch.context() as patch:
        patch.setattr(module, "info_nce", pressed)
        with pytest.raises(KeyboardInterrupt):
            train(settings)
    saved = load_checkpoint(folder / "ckpt" / "latest.pt")["step"]
    assert saved == 3, "the step that was begun is finished and saved"
    train(settings_of(folder))
    first, second = (
        load_checkpoint(one / "ckpt" / "final_model.pt")["encoder"] for one in (folder, shared / "unbroken")
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_terminal_shows_a_table_and_a_pipe_plain_lines(shared: Path) -> None:
    def run(name: str, output: int) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-P", "-m", "mixstyle.stages", "train", "--config", str(profile(shared / name))]
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = {**os.environ, "PYTHONPATH": paths, "TERM": "xterm-256color", "COLUMNS": "100"}
        return subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)

    ours, theirs = os.openpty()
    process = run("seen", theirs)
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # how a terminal tells that nobody writes to it any more
        while part := os.read(ours, 65536):
            seen += part
    os.close(ours)
    assert process.wait() == 0
    empty: dict[str, float | int | None] = dict.fromkeys(COLUMNS)
    shown = list(told_row({**empty, "accuracy": 0.0, "learning_rate": 0.0}, {"speed/data_wait_share": 0.0}, 0.0))
    assert len(shown) == 10
    for name in (*shown, "steps/s"):
        assert name.encode() in seen
    plain = run("piped", subprocess.PIPE)
    told = plain.communicate()[0]
    assert plain.returncode == 0
    assert not [name for name in shown[1:5] if name.encode() in told], "its plain lines tell the loss alone"
    assert b"\x1b[" not in told
    assert b"6/6 steps" in told


def test_a_cosine_that_ends_later_than_before_is_told(shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a cosine over 4 steps ends near 0; over 12 it stands at 0.85 of the whole after as many."""
    folder = shared / "cosine"
    options = {"schedule": "cosine", "map_every": 0, "validate_every": 9}
    train(settings_of(folder, num_epochs=2, **options))
    assert "train.schedule=" not in capsys.readouterr().err
    train(settings_of(folder, num_epochs=6, max_steps=6, **options))
    (told,) = (line for line in capsys.readouterr().err.splitlines() if "train.schedule=" in line)
    # step 4 of 4 had 0.003 (1 + cos(3/4 pi)) / 2, and would have 0.003 (1 + cos(3/6 pi)) / 2 of 6
    assert numbers(told)[:2] == [0.000439, 0.0015]
    train(settings_of(folder, num_epochs=6, max_steps=6, **options))
    assert "train.schedule=" not in capsys.readouterr().err


def test_rebuild_trains_anew_where_nothing_has_changed(shared: Path) -> None:
    settings = settings_of(shared / "again", num_epochs=1, map_every=0)
    first = train(settings)
    assert train(settings).loss is None  # nothing was left to do
    (settings.train.checkpoint_dir / "checkpoint_epoch_99.pt").write_bytes(b"of another run")
    again = train(settings, rebuild=True)
    assert (again.steps, again.loss) == (first.steps, first.loss)
    assert not (settings.train.checkpoint_dir / "checkpoint_epoch_99.pt").exists()
