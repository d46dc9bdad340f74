"""Files of earlier versions: the shipped encoder, and a checkpoint without the entries that came later."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.paths import ROOT
from safetensors import safe_open
from safetensors.torch import save_file

from mixstyle.cache.models.checkpoints import (
    SPECTROGRAMS,
    describe_encoder,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from mixstyle.cache.models.exports import load_encoder, save_export
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel
from mixstyle.pipeline.encoder.versions import SPECTROGRAMS_VERSION


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder_1.safetensors"])
def test_the_shipped_encoders_are_read(name: str) -> None:
    loaded = load_encoder(ROOT / "api" / name)
    assert loaded.step > 0
    assert loaded.content["card"].startswith("# mixstyle encoder")
    assert all(value.isfinite().all() for value in loaded.encoder.state_dict().values())
    assert all(record.name and record.fingerprint for record in loaded.separators)
    assert loaded.separators


def small() -> tuple[Encoder, StemMel]:
    torch.manual_seed(0)
    return Encoder(EncoderConfig(channels=(2, 4), encoder_dim=8)), StemMel(44_100, 1024, 512, 128)


def checkpoint_of(encoder: Encoder, mel: StemMel) -> dict[str, Any]:
    return {
        "version": 1,
        **describe_encoder(encoder, mel),
        "chain_head": None,
        "settings": {"train": {"objective": "same-song"}},
        "made_from": {"stems": "0123456789abcdef", "features": "fedcba9876543210"},
        "trained_on": torch.tensor([1, 2]),
        "epoch": 1,
        "step": 7,
        "optimizer": {},
        "loss": 1.0,
        "best_loss": 1.0,
        "training_seconds": 2.0,
    }


def test_spectrograms_have_a_version_which_earlier_files_lack(tmp_path: Path) -> None:
    encoder, mel = small()
    content = checkpoint_of(encoder, mel)
    checkpoint, export = tmp_path / "latest.pt", tmp_path / "encoder.safetensors"
    save_checkpoint(checkpoint, content)
    assert load_checkpoint(checkpoint)[SPECTROGRAMS] == SPECTROGRAMS_VERSION
    save_export(export, load_encoder(checkpoint), "a card")
    assert load_encoder(export).content[SPECTROGRAMS] == SPECTROGRAMS_VERSION
    with safe_open(export, "pt") as file:
        told = json.loads(file.metadata()["mixstyle"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    told.pop("sha256")  # earlier files had none, and one that is not there is not compared
    for version in (None, 1, SPECTROGRAMS_VERSION + 1):
        stored = {SPECTROGRAMS: version} if version else {}
        save_checkpoint(checkpoint, {**{k: v for k, v in content.items() if k != SPECTROGRAMS}, **stored})
        other = {**{k: v for k, v in told.items() if k != SPECTROGRAMS}, **stored}
        save_file(tensors, export, {"mixstyle": json.dumps(other)})
        found, passed_over = newest_checkpoint(tmp_path)
        fits = (version or 1) == SPECTROGRAMS_VERSION
        assert ((found is not None), len(passed_over)) == (fits, 0 if fits else 1)
        for path in (checkpoint, export):
            if fits:
                assert load_encoder(path).mel.n_fft == mel.n_fft
                continue
            with pytest.raises(MixstyleError) as caught:
                load_encoder(path)
            assert (caught.value.code, str(path) in str(caught.value)) == ("misfit", True)


def test_a_checkpoint_of_before_the_readers_is_read(tmp_path: Path) -> None:
    """As the first version of the format stood: no `reader`, no version of the spectrograms."""
    encoder, mel = small()
    old = checkpoint_of(encoder, mel)
    del old[SPECTROGRAMS]
    path = tmp_path / "final_model.pt"
    torch.save(old, path)
    loaded = load_encoder(path)
    assert (loaded.step, loaded.epoch) == (7, 1)
    assert loaded.separators == (), "its settings name no separator"
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(loaded.encoder.state_dict()[name], value, atol=0, rtol=0)  # stored bits, read back
    torch.save({**old, "version": 2}, path)
    for wrong, code in ((path, "unknown-version"), (tmp_path / "none.pt", "not-found")):
        with pytest.raises(MixstyleError) as caught:
            load_checkpoint(wrong)
        assert (caught.value.code, str(wrong) in str(caught.value)) == (code, True)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(MixstyleError) as caught:
        load_checkpoint(path)
    assert caught.value.code == "damaged-file"
