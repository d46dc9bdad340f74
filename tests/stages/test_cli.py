"""The commands that use what was trained, as they are typed."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.small_cache import make_cache
from helpers.small_encoder import embedding_profile, write_encoder
from helpers.small_separator import write_separator, write_songs
from helpers.training import CLIP_S, profile, settings_of
from typer.testing import CliRunner

from mixstyle.cache.models.exports import load_export
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.stages.cli import app
from mixstyle.stages.features.stage import features
from mixstyle.stages.train.stage import train


def typed(*words: object) -> str:
    """Runs a command; what it printed. Raises what it raised."""
    result = CliRunner().invoke(app, [str(word) for word in words])
    if result.exception is not None:
        raise result.exception
    return result.output


def test_a_trained_encoder_is_evaluated_and_exported(tmp_path: Path) -> None:
    make_cache(tmp_path / "stems", tracks=8, clips=2, clip_s=CLIP_S, validation=4)
    settings = settings_of(tmp_path / "run", num_epochs=1)
    features(settings)
    train(settings)
    path = profile(tmp_path / "run", num_epochs=1)
    data = yaml.safe_load(path.read_text())
    write_separator(tmp_path / "separator")
    data["separate"] |= {
        "separator_config": str(tmp_path / "separator" / "separator.yaml"),
        "separator_checkpoint": str(tmp_path / "separator" / "separator.safetensors"),
    }
    data["evaluate"] = {"evaluate_dir": str(tmp_path / "out"), "effects": [2], "hard_chains": 2, "workers": 0}
    data["evaluate"] |= {"tasks": ["same-chain", "content-hard", "songs"], "device": "cpu"}
    path.write_text(yaml.safe_dump(data))
    told = typed("export", tmp_path / "e.safetensors", "--half", "--config", path)
    assert "export: wrote" in told
    assert load_export(tmp_path / "e.safetensors").step == 2
    told = typed("evaluate", "--config", path, "--checkpoint", tmp_path / "e.safetensors", "--chains", 10)
    assert "same chain, different content" in told
    assert "raw descriptors" in told
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["rows"][0] == "e"
    assert metrics["chains"] == 10
    with pytest.raises(MixstyleError, match=r"chains: 10 -> 11"):
        typed("evaluate", "--config", path, "--checkpoint", tmp_path / "e.safetensors", "--chains", 11)


def test_songs_are_embedded_indexed_searched_and_compared(tmp_path: Path) -> None:
    music = write_songs(tmp_path / "music", 3)
    embedding_profile(tmp_path, music)
    encoder = write_encoder(tmp_path / "encoder.safetensors")
    common = ("--config", tmp_path / "profile.yaml", "--encoder", encoder, "--device", "cpu")
    songs = sorted(music.glob("*.flac"))
    assert "3 songs, 32 dimensions" in typed("embed", *songs, "-o", tmp_path / "e.npy", *common)
    assert np.load(tmp_path / "e.npy").shape == (3, 32)
    assert "index: 3 songs in" in typed("index", music, "--index", tmp_path / "index", *common)
    assert "0 of them new or changed" in typed("index", music, "--index", tmp_path / "index", *common)
    told = typed("search", songs[0], "-k", 1, "--index", tmp_path / "index", *common)
    assert "mixed like song 0.flac, of 3 songs" in told
    assert "cosine" in typed("compare", songs[0], songs[1], "--png", tmp_path / "c.png", *common)
    assert (tmp_path / "c.png").is_file()
    with pytest.raises(MixstyleError, match=r"nothing\.wav: no such file"):
        typed("search", tmp_path / "nothing.wav", "--index", tmp_path / "index", *common)
    with pytest.raises(MixstyleError, match="no index there"):
        typed("search", songs[0], "--index", tmp_path / "other", *common)
