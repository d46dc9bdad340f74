"""Gradients of a step: micro-batches and several processes give those of one pass; objectives draw what they say."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.numbers import numbers
from helpers.small_cache import make_cache
from helpers.training import CLIP_S, diverge, profile, rows_of, settings_of

from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.pipeline.encoder.objectives.base import UNTOUCHED
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.stages.features.described_stems import open_described_stems
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.data import Item, Items, Key, load_batches
from mixstyle.stages.train.readers import RandomReader
from mixstyle.stages.train.schedule import learning_rate
from mixstyle.stages.train.setup import datasets, head_of, new_encoder, shapes
from mixstyle.stages.train.stage import train
from mixstyle.stages.train.step import Stepper, micro_batches

ALL = {"aug_effects": list(EFFECTS), "aug_mix_prob": 0.3, "aug_shuffle": True, "loudness_match": True}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steps")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2)
    features(settings_of(folder / "inputs"))
    return folder


def item_of(data: Items, key: Key) -> Item:
    return data[RandomReader(data).request(key)]


def stepper_of(settings: Settings) -> tuple[Stepper, object]:
    cache, store = open_described_stems(settings)
    mel, config = shapes(settings.train, len(store.names), cache)
    torch.manual_seed(1)
    head = head_of(settings.train)
    encoder = new_encoder(config, store, 0)
    data, _ = datasets(settings.train, cache, store, describe_here=True)
    batch = next(load_batches(RandomReader(data), [(0, 0)], 0))
    return Stepper(encoder, mel, head, settings.train, torch.device("cpu")), batch


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_micro_batches_give_the_gradients_of_the_whole(shared: Path, dropout: float) -> None:
    found = []
    for accumulate in (1, 2) if dropout else (1, 2, 4):
        changes = {"batch_size": 4, "accumulate": accumulate, "dropout": dropout, "chain_weight": 0.5}
        stepper, batch = stepper_of(settings_of(shared / "micro", **changes))
        for module in stepper.encoder.modules():  # batch statistics differ between parts of a batch: frozen
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        result = stepper.gradients(batch, seed=5)  # type: ignore[arg-type]
        grads = [p.grad.flatten() for p in stepper.encoder.parameters() if p.grad is not None]
        found.append((result.loss, torch.cat(grads)))
        assert torch.cat(grads).abs().max() > 1e-4
    if dropout:  # masks are drawn for each part
        assert not torch.allclose(found[0][1], found[1][1], atol=1e-4)
        return
    for loss, grads in found[1:]:
        # float32 sums in another order: 2^-24 of a loss near 2 in each of some ten sums, and of gradients up to 0.7 in
        # sums over 4 clips and their frames: 1e-5 of the largest
        assert loss == pytest.approx(found[0][0], abs=2e-6)
        torch.testing.assert_close(grads, found[0][1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("items", "parts"), [(4, 2), (5, 2), (6, 3), (24, 5), (3, 8), (1, 4), (7, 1)])
def test_anchor_and_positive_share_no_micro_batch(items: int, parts: int) -> None:
    found = micro_batches(items, parts)
    assert len(found) <= parts
    assert sorted(torch.cat(found).tolist()) == list(range(3 * items))
    place = {row: k for k, part in enumerate(found) for row in part.tolist()}
    for item in range(items):
        anchor, positive, negative = (place[role * items + item] for role in range(3))
        if len(found) > 1:
            assert anchor != positive
        if len(found) > 2:
            assert negative not in (anchor, positive)


def test_micro_batches_see_the_same_dropout_twice(shared: Path) -> None:
    changes = {"batch_size": 4, "accumulate": 2, "dropout": 0.5}
    stepper, batch = stepper_of(settings_of(shared / "dropout", **changes))
    seen: list[torch.Tensor] = []
    stepper.encoder.projection.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    before = stepper.encoder.bands[0].first.norm.running_mean.clone()  # type: ignore[union-attr]
    stepper.gradients(batch, seed=5)  # type: ignore[arg-type]
    assert len(seen) == 4
    for first, second in zip(seen[:2], seen[2:], strict=True):
        torch.testing.assert_close(first, second, atol=0, rtol=0)
    norm = stepper.encoder.bands[0].first.norm
    assert norm.num_batches_tracked >= 2  # type: ignore[operator]
    assert not torch.equal(before, norm.running_mean)  # type: ignore[arg-type]


def test_a_shared_chain_is_on_other_content(shared: Path) -> None:
    settings = settings_of(shared / "chain", objective="shared-chain", **ALL)
    cache, store = open_described_stems(settings)
    data, held = datasets(settings.train, cache, store, describe_here=True)
    assert held is not None
    for key in ((0, 0, 0), (3, 1, 1)):
        item = item_of(data, key)
        anchor, positive, negative = item.chains
        assert anchor == positive != negative
        clips = {(track.track_id, clip.clip_id): cache.read_clip(clip) for track in data.tracks for clip in track.clips}
        frames = item.stems.shape[-1]

        def source(place: int, clips: dict = clips, item: object = item, frames: int = frames) -> str:
            """The track whose clip, mixed as it is told, gives what the item holds."""
            for (track_id, _), whole in clips.items():
                for start in range(0, whole.shape[-1] - frames + 1, whole.shape[-1]):
                    made = apply_mix_chain(whole[..., start : start + frames], item.chains[place])  # type: ignore[attr-defined]
                    if np.array_equal(made, item.stems[place].numpy()):  # type: ignore[attr-defined]
                        return track_id
            return "?"

        whole = settings_of(shared / "whole", objective="shared-chain", clip_duration_s=CLIP_S, **ALL)
        item = datasets(whole.train, cache, store, describe_here=True)[0]
        item = item_of(item, key)
        frames = item.stems.shape[-1]
        tracks = [source(place, clips, item, frames) for place in range(3)]
        assert tracks[0] == tracks[2] == item.track_id
        assert tracks[1] not in ("?", item.track_id), "the positive should be of another song"
        # described in batches of other sizes: sums of float32 squares in another order move a level by 6e-5 dB
        torch.testing.assert_close(item.descriptors, describe(item.stems), atol=1e-4, rtol=0)


def test_two_axes_share_song_and_chain(shared: Path) -> None:
    settings = settings_of(shared / "axes", objective="two-axis", chain_effects=[2, 5], clip_duration_s=CLIP_S)
    cache, store = open_described_stems(settings)
    data, _ = datasets(settings.train, cache, store, describe_here=True)
    item = item_of(data, (0, 0, 0))
    anchor, positive, negative = item.chains
    assert anchor == positive != negative
    whole = next(track for track in data.tracks if track.track_id == item.track_id)
    clips = [cache.read_clip(clip) for clip in whole.clips]
    sources = [
        [place for place, clip in enumerate(clips) if np.array_equal(apply_mix_chain(clip, remix), stems.numpy())]
        for remix, stems in zip(item.chains, item.stems, strict=True)
    ]
    assert [len(found) for found in sources] == [1, 1, 1], "all three are of the song"
    assert sources[0] == sources[2] != sources[1], "the positive is another clip, the negative the same one"


def test_a_ring_puts_each_chain_on_three_clips(shared: Path) -> None:
    settings = settings_of(shared / "ring", objective="chain-ring", chain_effects=[2, 5])
    cache, store = open_described_stems(settings)
    data, _ = datasets(settings.train, cache, store, describe_here=True)
    seen = set()
    for batch in load_batches(RandomReader(data), [(0, 0), (0, 1), (4, 0)], 0):
        for item, (anchor, positive, negative) in enumerate(batch.chains):
            assert anchor == positive != negative
            assert negative == batch.chains[(item + 1) % len(batch.chains)][0]
            assert 2 <= len(anchor.stems[0]) <= 5
            assert anchor.mix_lufs == -14
            seen.add(json.dumps(anchor.to_json()))
    assert len(seen) == 3 * data.batch_size, "chains are drawn for every step"
    one, two = (list(load_batches(RandomReader(data), [(0, 1), (1, 0)], workers)) for workers in (0, 2))
    assert all(torch.equal(a.stems, b.stems) and a.chains == b.chains for a, b in zip(one, two, strict=True))


def test_chains_of_too_many_effects_are_refused(shared: Path) -> None:
    inputs = open_described_stems(settings_of(shared / "chains"))
    for wrong in ([1], [0, 3], [4, 2], [1, 13]):
        with pytest.raises(MixstyleError) as caught:
            datasets(settings_of(shared / "chains", chain_effects=wrong).train, *inputs, True)
        assert (caught.value.code, "train.chain_effects=" in str(caught.value)) == ("bad-setting", True)


def test_stems_are_normalised_before_they_are_mixed(shared: Path) -> None:
    inputs = open_described_stems(settings_of(shared / "n"))
    plain, normal = (
        datasets(settings_of(shared / f"n{n}", fx_normalise=n).train, *inputs, True)[0] for n in (False, True)
    )
    one, other = (item_of(data, (0, 0, 0)) for data in (plain, normal))
    assert one.chains == other.chains
    assert one.chains[0] == UNTOUCHED
    assert not torch.allclose(one.stems[0], other.stems[0])
    loudness = describe(other.stems[:2])[:, :6]
    assert torch.isfinite(loudness).all()


RING = {"chain_effects": [1, 4], "objective": "chain-ring"}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"objective": "shared-chain", **ALL}, marks=pytest.mark.slow),
        pytest.param({"fx_normalise": True}, marks=pytest.mark.slow),
        RING,
    ],
)
def test_every_objective_trains_and_goes_on_exactly(shared: Path, changes: dict[str, object]) -> None:
    name = "-".join(changes)[:12]
    more = {**changes, "chain_weight": 0.3, "accumulate": 2, "warmup_steps": 3, "num_epochs": 2}
    ends = []
    for folder, stops in ((shared / f"{name}-whole", ()), (shared / f"{name}-broken", (3,))):
        for stop in (*stops, 0):
            train(settings_of(folder, **more, max_steps=stop))
        ends.append(load_checkpoint(folder / "ckpt" / "final_model.pt"))
    one, other = ends
    assert one["step"] == 4
    for part in ("encoder", "chain_head"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])
    fresh = head_of(settings_of(shared / f"{name}-whole", **more).train)
    assert fresh is not None
    assert one["chain_head"]["layers.0.weight"].shape == fresh.state_dict()["layers.0.weight"].shape


def test_the_learning_rate_rises_and_falls(shared: Path) -> None:
    folder = shared / "cosine"
    settings = settings_of(folder, schedule="cosine", warmup_steps=2, num_epochs=3)
    train(settings)
    base = settings.train.learning_rate
    rates = [float(row["learning_rate"]) for row in rows_of(folder)]
    # half a cosine over the four steps that are left of six
    expected = [base / 2, base, *(base * (1 + np.cos(np.pi * k / 4)) / 2 for k in range(4))]
    # the table has nine digits: half a unit in the last
    assert rates == pytest.approx(expected, rel=5.1e-9)
    assert learning_rate(settings.train, 6, 6) == pytest.approx(0, abs=1e-18)  # (1 + cos(pi)) / 2 of 0.003, in float64


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["same-song", "chain-ring"])
def test_two_processes_give_the_step_of_one(shared: Path, objective: str) -> None:
    ends = []
    for processes in (1, 2):
        folder = shared / f"ranks-{objective}-{processes}"
        changes = {"batch_size": 4, "chain_weight": 0.5, "dropout": 0.0, "max_steps": 1, "objective": objective}
        train(settings_of(folder, **changes, processes=processes))
        ends.append(load_checkpoint(folder / "ckpt" / "final_model.pt"))
        assert len(rows_of(folder)) == 1
    one, two = ends
    for name, value in one["encoder"].items():
        # Adam's first step goes by a gradient's sign: where that is next to nothing (1e-7), rounding decides
        close = torch.isclose(two["encoder"][name].double(), value.double(), atol=1e-5, rtol=1e-4)
        assert close.double().mean() > 0.998, name
    for number, state in one["optimizer"]["state"].items():
        # after one step the running mean is a tenth of the gradient: gradients agree to 1e-5
        torch.testing.assert_close(two["optimizer"]["state"][number]["exp_avg"], state["exp_avg"], atol=1e-6, rtol=1e-3)
    assert two["loss"] == pytest.approx(one["loss"], abs=1e-5)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_it_goes_on(shared: Path) -> None:
    path = profile(shared / "dying", processes=2, num_epochs=40, batch_size=4, save_every_steps=1)
    command = [sys.executable, "-P", "-m", "mixstyle.stages", "train", "--config", str(path)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment, text=True)
    log = shared / "dying" / "ckpt" / "loss.csv"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not (log.is_file() and len(rows_of(shared / "dying")) > 1):
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = [c for c in children if b"RANK=1" in Path(f"/proc/{c}/environ").read_bytes().split(b"\0")]
    os.kill(int(ranks[0]), signal.SIGKILL)
    assert process.stderr is not None
    told = process.stderr.read()
    assert process.wait(60) == 1
    (line,) = (line for line in told.splitlines() if "SIGKILL" in line)
    assert numbers(line)[:2] == [2, 2], "the second of two processes"
    assert "Traceback" not in told
    done = load_checkpoint(shared / "dying" / "ckpt" / "latest.pt")["step"]
    assert done >= 1
    train(
        settings_of(shared / "dying", processes=2, num_epochs=40, batch_size=4, save_every_steps=1, max_steps=done + 2)
    )
    assert load_checkpoint(shared / "dying" / "ckpt" / "final_model.pt")["step"] == done + 2


def test_a_batch_that_cannot_be_shared_and_an_unknown_effect_are_refused(shared: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        settings_of(shared / "odd", processes=2, batch_size=3)
    assert (caught.value.code, "train.batch_size=3" in str(caught.value)) == ("bad-setting", True)
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared / "flanger", aug_effects=["flanger"]))
    assert (caught.value.code, "flanger" in str(caught.value)) == ("bad-setting", True)


@pytest.mark.slow
def test_what_a_process_refuses_is_told_as_it_said_it(shared: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared / "long", processes=2, clip_duration_s=3.0))
    assert "clip_duration_s=3" in str(caught.value)  # what the process said that ended first


def test_a_batch_that_is_not_finite_is_skipped_where_wanted(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diverge(monkeypatch)
    summary = train(settings_of(shared / "skip", num_epochs=3, on_not_finite="skip"))
    assert summary.steps == 6
    written = sorted((shared / "skip" / "ckpt").glob("not_finite_step_*.json"))
    assert written
    content = json.loads(written[0].read_text())
    assert {"anchor", "positive", "negative"} == set(content["remixes"][0])
