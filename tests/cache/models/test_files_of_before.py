"""Files of earlier versions: the shipped encoder, and a checkpoint without the entries that came later."""

from pathlib import Path

import pytest
import torch
from helpers.paths import ROOT

from mixstyle.cache.models.checkpoints import describe_encoder, load_checkpoint
from mixstyle.cache.models.exports import load_encoder
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.encoder.encoder import Encoder, EncoderConfig
from mixstyle.pipeline.encoder.mel import StemMel


@pytest.mark.parametrize("name", ["encoder.safetensors", "encoder_1.safetensors"])
def test_the_shipped_encoders_are_read(name: str) -> None:
    loaded = load_encoder(ROOT / "api" / name)
    assert loaded.step > 0
    assert loaded.content["card"].startswith("# mixstyle encoder")
    assert all(value.isfinite().all() for value in loaded.encoder.state_dict().values())
    assert all(record.name and record.fingerprint for record in loaded.separators)
    assert loaded.separators


def test_a_checkpoint_of_before_the_readers_is_read(tmp_path: Path) -> None:
    """As the first version of the format stood: no `reader`."""
    torch.manual_seed(0)
    encoder, mel = Encoder(EncoderConfig(channels=(2, 4), encoder_dim=8)), StemMel(44_100, 1024, 512, 128)
    old = {
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
