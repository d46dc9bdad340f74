"""A training that starts from another encoder: its weights, its songs and separators; what does not fit is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.small_bank import ON_A_BANK, describe_bank, make_bank, training_settings

from mixstyle.cache.feature_store.store import FeatureStore
from mixstyle.cache.models.checkpoints import LoadedEncoder, load_checkpoint
from mixstyle.cache.models.exports import load_encoder, save_export
from mixstyle.cache.models.separator_records import SeparatorRecord
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.export import export
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train import start as start_module
from mixstyle.stages.train.stage import train
from mixstyle.stages.train.start import start_of
from mixstyle.stages.train.status import train_status

GRID = {**ON_A_BANK, "encoder_dim": 128}


def settings_of(shared: Path, name: str, **changes: object) -> Settings:
    return training_settings(shared, name, {**GRID, **changes})


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bank, and `first.safetensors`: an encoder trained on it, exported with a kept share of descriptors."""
    folder = tmp_path_factory.mktemp("start")
    make_bank(folder / "bank", blocks=5, groups=2, contents=3, clip_s=1.0)
    describe_bank(StemCache(folder / "bank"), folder / "bank.zarr")
    settings = settings_of(folder, "first")
    train(settings)
    checkpoint = folder / "first" / "ckpt" / "final_model.pt"
    export(settings, folder / "first.safetensors", checkpoint, descriptor_share=0.4)
    return folder


def final(shared: Path, name: str) -> dict[str, torch.Tensor]:
    return load_checkpoint(shared / name / "ckpt" / "final_model.pt")["encoder"]


def state_of(settings: Settings) -> str:
    cache, store = StemCache(settings.remix.remix_dir), FeatureStore.open(settings.remix.features_path)
    return train_status(settings, cache, store).state


def test_a_step_of_next_to_nothing_leaves_the_weights_of_the_start(shared: Path) -> None:
    """AdamW moves a weight by at most its learning rate at the first step: here 1e-9."""
    still = {"learning_rate": 1e-9, "weight_decay": 0.0, "max_steps": 1, "warmup_steps": 0}
    train(settings_of(shared, "still", start_from=str(shared / "first.safetensors"), **still))
    before, after = load_encoder(shared / "first.safetensors").encoder.state_dict(), final(shared, "still")
    weights = {name for name in after if "running_" not in name and "num_batches" not in name}
    assert weights < after.keys() <= before.keys()
    for name in weights:
        assert torch.allclose(before[name], after[name], rtol=1e-7, atol=2e-9), name


def test_songs_and_separators_of_the_start_count_too(shared: Path) -> None:
    loaded, other = load_encoder(shared / "first.safetensors"), SeparatorRecord("other", "00ff", 2)
    content = {**loaded.content, "trained_on": torch.tensor([999_999])}
    save_export(shared / "other.safetensors", replace(loaded, separators=(other,), content=content), "")
    train(settings_of(shared, "told", start_from=str(shared / "other.safetensors"), max_steps=1))
    first, told = (load_checkpoint(shared / name / "ckpt" / "final_model.pt") for name in ("first", "told"))
    assert told["trained_on"].tolist() == [*first["trained_on"].tolist(), 999_999]
    assert told["separators"] == [other.to_json(), *first["separators"]]
    assert set(told["made_from"]) == {*first["made_from"], "start"}


def test_songs_of_the_validation_that_the_start_knows_are_told(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last of the bank's blocks is held out: its three songs have the numbers 400 to 402."""
    loaded = load_encoder(shared / "first.safetensors")
    content = {**loaded.content, "trained_on": torch.tensor([401, 402])}
    save_export(shared / "knows.safetensors", replace(loaded, content=content), "")
    train(settings_of(shared, "clean", start_from=str(shared / "first.safetensors"), max_steps=1))
    assert "validation songs" not in capsys.readouterr().err
    train(settings_of(shared, "knows", start_from=str(shared / "knows.safetensors"), max_steps=1))
    assert "2 of the 3 validation songs" in capsys.readouterr().err


def test_a_run_in_two_parts_ends_as_one_and_another_start_is_refused(shared: Path) -> None:
    start = {"start_from": str(shared / "first.safetensors")}
    train(settings_of(shared, "one", **start))
    train(settings_of(shared, "parts", max_steps=1, **start))
    train(settings_of(shared, "parts", **start))
    one, two = final(shared, "one"), final(shared, "parts")
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert state_of(settings_of(shared, "parts", **start)) == "done"
    half = shared / "half.safetensors"
    save_export(half, load_encoder(shared / "first.safetensors"), "", half=True)
    for other in ({"start_from": str(half)}, {}):
        with pytest.raises(MixstyleError) as caught:
            train(settings_of(shared, "parts", **other))
        assert (caught.value.code, caught.value.remedy) == ("stale", ("train", "--rebuild"))
        assert state_of(settings_of(shared, "parts", **other)) == "stale"


def test_sizes_that_do_not_fit_are_named_with_those_that_do(shared: Path) -> None:
    start = {"start_from": str(shared / "first.safetensors")}
    with pytest.raises(MixstyleError) as caught:
        train(settings_of(shared, "sizes", channels=[4, 4], pooling="statistics", hop_length=256, **start))
    assert caught.value.code == "bad-setting"
    told = caught.value.message.rpartition("set ")[2].split(", ")
    assert sorted(told) == ["train.channels=[2,4]", "train.hop_length=512", "train.pooling=mean"]
    assert not list((shared / "sizes").rglob("*.pt"))


def test_what_is_no_encoder_is_refused_before_anything_is_written(shared: Path) -> None:
    (shared / "junk.safetensors").write_bytes(b"no encoder")
    for name, code in (("junk.safetensors", "damaged-file"), ("none.safetensors", "not-found")):
        with pytest.raises(MixstyleError) as caught:
            train(settings_of(shared, "refused", start_from=str(shared / name)))
        assert caught.value.code == code
        assert not (shared / "refused" / "ckpt").exists()


def test_shipped_is_the_shipped_encoder(shared: Path) -> None:
    start = start_of(settings_of(shared, "shipped", start_from="shipped").train)
    assert start is not None
    assert start.path == shipped_encoder()


def test_a_training_reads_its_start_once(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One read serves the check before there is a folder, and the training itself."""
    read: list[Path] = []

    def counted(path: Path) -> LoadedEncoder:
        read.append(path)
        return load_encoder(path)

    monkeypatch.setattr(start_module, "load_encoder", counted)
    start = shared / "first.safetensors"
    for max_steps in (1, 2):
        train(settings_of(shared, "once", start_from=str(start), max_steps=max_steps))
        assert read == [start] * max_steps
