"""Training from a bank, as the command does it: it learns, goes on exactly, and refuses what does not fit."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.numbers import numbers
from helpers.small_bank import MIXED_FROM, ON_A_BANK, describe_bank, make_bank, training_settings
from helpers.training import rows_of

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import load_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.cache.storage.locks import locked
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.embed_clips import embed_clips
from mixstyle.stages.settings.profile import Settings, load_settings
from mixstyle.stages.train.data import load_batches
from mixstyle.stages.train.grid import BlockReader
from mixstyle.stages.train.setup import bank_datasets, head_of, new_encoder, shapes
from mixstyle.stages.train.stage import train
from mixstyle.stages.train.status import train_status
from mixstyle.stages.train.step import Stepper

GRID = {**ON_A_BANK, "channel_pairs": "mid-side"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bank")
    make_bank(folder / "bank", blocks=5, groups=2, contents=3, clip_s=1.0)
    describe_bank(StemCache(folder / "bank"), folder / "bank.zarr")
    return folder


def settings_of(shared: Path, name: str, **changes: object) -> Settings:
    return training_settings(shared, name, {**GRID, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"keep_mels": True, "workers": 1}, marks=pytest.mark.slow),
        {"clip_duration_s": 0.6},
        pytest.param({"keep_mels": True, "clip_duration_s": 0.6}, marks=pytest.mark.slow),
    ],
)
def test_it_trains_and_a_run_in_two_parts_ends_as_one(shared: Path, changes: dict[str, object]) -> None:
    name = "-".join(map(str, changes)) or "plain"
    train(settings_of(shared, name, **changes))
    train(settings_of(shared, f"{name}-parts", max_steps=1, **changes))
    train(settings_of(shared, f"{name}-parts", **changes))
    one, two = (load_checkpoint(shared / part / "ckpt" / "final_model.pt") for part in (name, f"{name}-parts"))
    assert one["step"] == two["step"] == 2
    for key, value in one["encoder"].items():
        assert torch.equal(value, two["encoder"][key]), key
    rows = rows_of(shared / name)
    assert len(rows) == 2
    assert all(np.isfinite(float(row["train_loss"])) for row in rows)
    assert float(rows[-1]["validation_loss"]) > 0


def test_the_checkpoint_tells_songs_and_is_used_at_any_level(shared: Path) -> None:
    settings = settings_of(shared, "used", num_epochs=1)
    train(settings)
    content = load_checkpoint(shared / "used" / "ckpt" / "final_model.pt")
    expected = {0, 1} | {100 * block + slot for block in (1, 2, 3) for slot in range(3)}
    assert set(content["trained_on"].tolist()) == expected
    assert content["made_from"]["mixed_from"] == MIXED_FROM  # by which a report knows the songs as trained on
    loaded = load_encoder(shared / "used" / "ckpt" / "final_model.pt", torch.device("cpu"))
    assert loaded.mel.channels == "mid-side"
    assert loaded.encoder.config.input_lufs == -14.0
    bank = StemCache(shared / "bank")
    stems = torch.from_numpy(bank.read_clip(bank.tracks[3].clips[0]))[None]
    first, second = (embed_clips(loaded.encoder, loaded.mel, gain * stems) for gain in (1.0, 0.25))
    assert torch.cosine_similarity(first, second).item() > 0.999  # the mel's floor alone does not move along


def test_micro_batches_give_the_gradients_of_the_whole(shared: Path) -> None:
    """With batch statistics at rest, parts and the whole differ by rounding alone."""
    found = []
    for accumulate in (1, 2, 3):
        options = settings_of(shared, "micro", accumulate=accumulate, dropout=0.0).train
        cache, store = StemCache(shared / "bank"), FeatureStore.open(shared / "bank.zarr")
        mel, config = shapes(options, len(store.names), cache)
        encoder = new_encoder(config, store, 0)
        head = head_of(options)  # after the seed that the encoder has set
        for module in encoder.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.eval()
        data, _ = bank_datasets(options, cache, store, describe_here=True)
        batch = next(load_batches(BlockReader(data), [(0, 0)], 0))
        result = Stepper(encoder, mel, head, options, torch.device("cpu")).gradients(batch, seed=5)
        grads = [p.grad.flatten() for p in encoder.parameters() if p.grad is not None]
        found.append((result.loss, torch.cat(grads)))
    largest = found[0][1].abs().max().item()
    assert largest > 1e-3
    for loss, grads in found[1:]:
        # float32 sums in another order: 2^-24 of a loss near 2 in each of some ten sums; gradients are sums over 12
        # clips and their frames, rounded by 1e-5 of the largest
        assert loss == pytest.approx(found[0][0], abs=2e-6)
        torch.testing.assert_close(grads, found[0][1], atol=1e-5 * max(1.0, largest), rtol=0)


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(shared: Path) -> None:
    train(settings_of(shared, "alone", dropout=0.0))
    train(settings_of(shared, "both", dropout=0.0, processes=2))
    for one, two in zip(rows_of(shared / "alone"), rows_of(shared / "both"), strict=True):
        # sums in another order, over the steps of AdamW, whose first steps are of the learning rate's size
        assert float(one["train_loss"]) == pytest.approx(float(two["train_loss"]), abs=2e-3)


@pytest.mark.parametrize(
    ("changes", "code", "named"),
    [
        ({"batch_size": 3}, "bad-setting", "train.batch_size"),
        ({"objective": "chain-gird"}, "bad-setting", "chain-grid"),
    ],
)
def test_what_does_not_fit_is_refused(shared: Path, changes: dict[str, object], code: str, named: str) -> None:
    settings = settings_of(shared, "refused", **changes)
    with pytest.raises(MixstyleError) as caught:
        train(settings)
    assert caught.value.code == code
    assert named in caught.value.message
    assert not (shared / "refused" / "ckpt" / "settings.json").exists()


def test_what_is_refused_is_told_before_spectrograms_are_made(shared: Path, tmp_path: Path) -> None:
    """They take hours of a large bank."""
    mels = tmp_path / "mels"
    kept = {"keep_mels": True, "mels_dir": str(mels)}
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared, "early", **kept, batch_size=3))
    assert (caught.value.code, mels.exists()) == ("bad-setting", False)
    train(settings_of(shared, "early", **kept, max_steps=1))
    assert mels.exists()
    other = {"keep_mels": True, "mels_dir": str(tmp_path / "other")}
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared, "early", **other, max_steps=1, input_lufs=-20.0))
    assert (caught.value.code, (tmp_path / "other").exists()) == ("stale", False)


def test_checkpoints_stay_where_another_process_makes_the_spectrograms(shared: Path, tmp_path: Path) -> None:
    kept = {"keep_mels": True, "mels_dir": str(tmp_path / "mels")}
    train(settings_of(shared, "in-use", **kept, max_steps=1))
    checkpoints = sorted((shared / "in-use" / "ckpt").glob("*.pt"))
    (made,) = (tmp_path / "mels").iterdir()
    with locked(made, "mixstyle train"), pytest.raises(MixstyleError) as caught:
        train(settings_of(shared, "in-use", **kept, max_steps=1), rebuild=True)
    assert caught.value.code == "in-use"
    assert sorted((shared / "in-use" / "ckpt").glob("*.pt")) == checkpoints != []


def test_without_a_bank_the_command_that_makes_one_is_told(shared: Path, tmp_path: Path) -> None:
    settings = load_settings("demo", values={"remix.remix_dir": str(tmp_path / "no"), "train.objective": "chain-grid"})
    with pytest.raises(MixstyleError) as caught:
        train(settings)
    assert (caught.value.code, caught.value.remedy) == ("step-missing", ("remix",))


def test_status_knows_the_bank(shared: Path) -> None:
    settings = settings_of(shared, "status")
    train(settings)
    found = train_status(settings, None, None)
    assert (found.state, found.problems) == ("done", ())
    assert numbers(found.done)[:2] == [2, 2], "steps"
    other = train_status(settings_of(shared, "status", input_lufs=-20.0), None, None)
    assert other.state == "stale"
    assert "train.input_lufs" in other.problems[0]
