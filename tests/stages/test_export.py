"""An exported encoder gives what its checkpoint gives, in one file; equal ones are equal bytes, damage is told of."""

import dataclasses
import json
import os
from pathlib import Path

import pytest
import torch
from helpers.numbers import numbers
from helpers.small_cache import make_cache, stems_of
from helpers.training import CLIP_S, settings_of
from safetensors import safe_open

from mixstyle.cache.models.exports import load_encoder, load_export
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.descriptors.compute import describe
from mixstyle.stages.common.assets import shipped_encoder
from mixstyle.stages.common.chosen_encoder import SHIPPED_CHECKPOINT
from mixstyle.stages.export import export
from mixstyle.stages.features.stage import features
from mixstyle.stages.presentation.model_card import model_card
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import train


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("exported")
    make_cache(folder / "stems", tracks=6, clips=3, clip_s=CLIP_S, validation=2, separator="0123456789abcdef")
    settings = settings_of(folder / "run", chain_weight=0.5, num_epochs=2)
    features(settings)
    train(settings)
    return settings


def embedding(path: Path, *, half: bool = False) -> torch.Tensor:
    """half: with weights that float16 holds, but for the statistics of descriptors."""
    loaded = load_encoder(path)
    if half:
        exact = ("descriptor_center", "descriptor_scale")
        state = {
            name: value.half().float() if value.is_floating_point() and name not in exact else value
            for name, value in loaded.encoder.state_dict().items()
        }
        loaded.encoder.load_state_dict(state)
    stems = torch.stack([torch.from_numpy(stems_of(seed, 3.0)) for seed in (1, 2)])
    with torch.inference_mode():
        return loaded.encoder(loaded.mel(stems), describe(stems))


def test_it_embeds_as_its_checkpoint_does(trained: Settings, tmp_path: Path) -> None:
    checkpoint = trained.train.checkpoint_dir / "best_model.pt"
    expected = embedding(checkpoint)
    whole, half = export(trained, tmp_path / "a.safetensors"), export(trained, tmp_path / "h.safetensors", half=True)
    assert torch.equal(embedding(whole), expected)
    rounded = embedding(checkpoint, half=True)
    assert torch.equal(embedding(half), rounded)
    assert not torch.equal(rounded, expected)
    # float16 has 11 bits: weights move by 2^-12 of themselves, a layer's outputs by as much, and some ten layers of
    # unit gain by sqrt(10) 2^-12 = 8e-4: embeddings stay alike to the square of that
    assert torch.cosine_similarity(rounded, expected).min() > 1 - 1e-5
    assert half.stat().st_size < 0.75 * whole.stat().st_size
    loaded, source = load_export(whole), load_encoder(checkpoint)
    assert loaded.settings == source.settings
    assert loaded.step == source.step
    assert [record.fingerprint for record in source.separators] == ["0123456789abcdef"]
    assert loaded.separators == source.separators
    assert torch.equal(load_export(half).encoder.descriptor_center, source.encoder.descriptor_center)


def test_a_share_of_descriptors_needs_an_encoder_that_was_trained_with_them(trained: Settings, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError) as caught:
        export(trained, tmp_path / "a.safetensors", descriptor_share=0.4)
    assert caught.value.code == "bad-option"
    assert not list(tmp_path.iterdir())


def test_how_long_clips_are_embedded_is_chosen_and_kept(trained: Settings, tmp_path: Path) -> None:
    cut = export(trained, tmp_path / "cut.safetensors", part_s=3.0)
    assert load_export(cut).encoder.config.part_s == 3.0
    again = export(trained, tmp_path / "again.safetensors", cut)
    assert load_export(again).encoder.config.part_s == 3.0
    shipped = export(trained, tmp_path / "shipped.safetensors", SHIPPED_CHECKPOINT)
    assert load_export(shipped).encoder.config == load_export(shipped_encoder()).encoder.config
    whole = export(trained, tmp_path / "whole.safetensors", cut, part_s=0.0)
    assert load_export(whole).encoder.config.part_s is None
    with pytest.raises(MixstyleError) as caught:
        export(trained, tmp_path / "wrong.safetensors", part_s=0.01)
    assert caught.value.code == "bad-option"
    assert not (tmp_path / "wrong.safetensors").exists()


def test_equal_encoders_give_equal_bytes(trained: Settings, tmp_path: Path) -> None:
    first, second = (export(trained, tmp_path / f"{n}.safetensors") for n in (1, 2))
    assert first.read_bytes() == second.read_bytes()


def test_others_can_read_it_where_the_umask_lets_them(trained: Settings, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = export(trained, tmp_path / "encoder.safetensors")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_the_card_tells_how_it_was_made(trained: Settings, tmp_path: Path) -> None:
    words = tmp_path / "words.md"
    words.write_text("## Licence\n\nCC0")
    path = export(trained, tmp_path / "c.safetensors", words=words)
    card = load_export(path).content["card"]
    (line,) = (line for line in card.splitlines() if "0.75 s" in line)
    found = numbers(line)
    clip = found.index(0.75)
    assert found[clip - 2 : clip + 1] == [load_export(path).step, 2, 0.75], "steps, tracks, seconds of a clip"
    assert "same-song" in card
    assert card.endswith("## Licence\n\nCC0\n")
    assert "## Results" not in card, "there is no report"


def test_the_card_of_a_banks_encoder_tells_which_stems_it_saw(trained: Settings) -> None:
    loaded = load_encoder(trained.train.checkpoint_dir / "best_model.pt")
    shares = {}
    for share in (0.0, 0.2):
        bank = {"contents": 3, "effects": [1, 8], "stems_share": share}
        seen = {**loaded.settings, "train": {**loaded.settings["train"], "objective": "chain-grid"}, "remix": bank}
        card = model_card(dataclasses.replace(loaded, settings=seen), None, "")
        shares[share] = "20%" in card
    assert shares == {0.0: False, 0.2: True}


def test_what_is_no_export_is_refused_in_a_line(trained: Settings, tmp_path: Path) -> None:
    path = export(trained, tmp_path / "x.safetensors")
    whole = path.read_bytes()
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(whole[:-100])
    with pytest.raises(MixstyleError) as caught:
        load_encoder(torn)
    assert (caught.value.code, "torn.safetensors" in str(caught.value)) == ("damaged-file", True)
    with safe_open(path, "pt") as file:
        content = json.loads(file.metadata()["mixstyle"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "v.safetensors", {"mixstyle": json.dumps({**content, "version": 9})})
    with pytest.raises(MixstyleError) as caught:
        load_encoder(tmp_path / "v.safetensors")
    assert (caught.value.code, "v.safetensors" in str(caught.value)) == ("unknown-version", True)
    save_file(tensors, tmp_path / "n.safetensors")
    with pytest.raises(MixstyleError) as caught:
        load_encoder(tmp_path / "n.safetensors")
    assert (caught.value.code, "n.safetensors" in str(caught.value)) == ("wrong-file", True)
    with pytest.raises(MixstyleError) as caught:
        export(trained, tmp_path / "out.bin")
    assert caught.value.code == "bad-option"
    assert "out.bin" in str(caught.value)
    with pytest.raises(MixstyleError) as caught:
        load_encoder(tmp_path / "no.safetensors")
    assert (caught.value.code, "no.safetensors" in str(caught.value)) == ("not-found", True)
