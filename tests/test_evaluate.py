"""Evaluation: measures against embeddings with known answers, styles by the meter, runs that go on and are refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import torch
from small_cache import make_cache, stems_of
from test_train_stage import CLIP_S, settings_of

import mixstyle.stages.evaluate as module
from mixstyle.cache.stem_cache import StemCache
from mixstyle.pipeline.effects import EFFECTS
from mixstyle.pipeline.errors import MixstyleError
from mixstyle.pipeline.remix import apply_remix
from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.pipeline.stems import SAMPLE_RATE
from mixstyle.pipeline.styles import STEM_LUFS, draw_style
from mixstyle.stages.evaluate import content_hard, evaluate, hard_of, held_out, retrieval_of, same_chain
from mixstyle.stages.evaluate_models import EncoderRow, rows_of
from mixstyle.stages.features import features
from mixstyle.stages.settings import Settings
from mixstyle.stages.train import train


class Levels:
    """A model as somebody might bring it: the level of each stem in the mixture."""

    name = "levels"

    def embed(self, mixtures: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
        assert mixtures.shape == (len(stems), 2, stems.shape[-1])
        return stems.square().mean((-1, -2)).sqrt()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("evaluated")
    make_cache(folder / "stems", tracks=8, clips=3, clip_s=CLIP_S, validation=4)
    settings = settings_of(folder / "run", num_epochs=1)
    features(settings)
    train(settings)
    return settings


def chosen(settings: Settings, folder: Path, **changes: object) -> Settings:
    options = {"styles": 10, "effects": (1, 3), "hard_styles": 3, "workers": 0, "device": "cpu", **changes}
    return dataclasses.replace(
        settings, evaluate=dataclasses.replace(settings.evaluate, evaluate_dir=folder, **options)
    )


def songs_of(settings: Settings) -> list:
    return held_out(StemCache(settings.separate.stems_dir))


@pytest.mark.parametrize("effects", [1, 4, 12])
def test_a_style_is_the_same_effects_in_the_same_order_on_every_stem(effects: int) -> None:
    style = draw_style(np.random.default_rng(3), effects)
    assert style == draw_style(np.random.default_rng(3), effects)
    names = {tuple(effect.name for effect in chain) for chain in style.stems}
    assert len(names) == 1
    assert len(set(names.pop())) == effects
    assert len({tuple(chain[0].parameters.values()) for chain in style.stems}) == 4, "each with its own parameters"
    with pytest.raises(ValueError, match="1 to 12 effects"):
        draw_style(np.random.default_rng(0), len(EFFECTS) + 1)


def test_styles_set_the_loudness_of_stems_and_mix() -> None:
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    stems = stems_of(3, 3.0)
    stems[1] = 0
    # a chain that does nothing shows what else is done
    drawn = draw_style(np.random.default_rng(1), 1)
    nothing = dataclasses.replace(drawn, stems=((), (), (), ()))
    out = apply_remix(stems, nothing)
    assert meter.integrated_loudness(out.sum(0).T.astype(np.float64)) == pytest.approx(-14, abs=0.05)  # LUFS
    assert not out[1].any(), "a silent stem stays silent"
    found = [meter.integrated_loudness(out[i].T.astype(np.float64)) for i in (0, 2, 3)]
    wanted = [nothing.stem_lufs[i] for i in (0, 2, 3)]
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), atol=0.05)  # LU: one gain is common to all
    assert all(STEM_LUFS[0] <= lufs <= STEM_LUFS[1] for lufs in nothing.stem_lufs)


def test_measures_of_embeddings_with_known_answers(trained: Settings) -> None:
    part = same_chain(songs_of(trained), 2, 40, 0)
    assert len(part.items) == 80
    for query, pool in zip(part.items[:40], part.items[40:], strict=True):
        assert query[1] == pool[1]
    assert all(a != b for a, b in zip(part.songs[:40], part.songs[40:], strict=True)), "content should differ"
    styles = np.tile(np.eye(40, dtype=np.float32), (2, 1))
    assert retrieval_of(styles, part, "x") == pytest.approx(
        {"r1": 1, "r1_low": 1, "r1_high": 1, "r5": 1, "r5_low": 1, "r5_high": 1, "r10": 1, "r10_low": 1, "r10_high": 1}
        | {"mean_rank": 1, "median_rank": 1, "mrr": 1, "chance_r1": 1 / 40}
    )
    noise = np.random.default_rng(0).standard_normal((80, 16)).astype(np.float32)
    found = retrieval_of(noise, part, "x")
    assert found["r10"] == pytest.approx(10 / 40, abs=0.25)
    assert found["mean_rank"] == pytest.approx(20.5, abs=6)
    # z-scoring takes the units out: one dimension in millionths weighs what others do
    scaled = styles * np.where(np.arange(40) == 0, 1e-6, 1.0).astype(np.float32) + 5
    assert retrieval_of(scaled, part, "raw descriptors")["r1"] == 1


def test_content_hard_tells_style_from_content(trained: Settings) -> None:
    part = content_hard(songs_of(trained), 5, 3, 0)
    songs = len(songs_of(trained))
    assert len(part.items) == 5 * songs
    by_style = np.repeat(np.eye(5, dtype=np.float32), songs, axis=0)
    by_song = np.tile(np.eye(songs, dtype=np.float32), (5, 1))
    assert hard_of(by_style, part, 5, "x")["r1"] == 1
    assert hard_of(by_song, part, 5, "x")["r1"] == 0
    assert hard_of(by_song, part, 5, "x")["chance_r1"] == 0.2


def test_intervals_resample_whole_songs() -> None:
    values = np.repeat([0.0, 1.0], 50)
    alone, grouped = (bootstrap_groups(values, g) for g in (np.arange(100), np.repeat([0, 1], 50)))
    assert alone.value == grouped.value == 0.5
    assert alone.high - alone.low < 0.25
    assert (grouped.low, grouped.high) == (0, 1), "two songs tell next to nothing"


def test_a_run_is_complete_seeded_and_goes_on(
    trained: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = chosen(trained, tmp_path / "a", models=("test_evaluate:Levels",))
    metrics = evaluate(first)
    out = capsys.readouterr().out
    names = ["best_model", "untrained", "raw descriptors", "MFCC statistics", "levels"]
    for name in (*names, "chance"):
        assert name in out
        assert name == "chance" or 0 <= metrics["same_chain"]["3"][name]["r1"] <= 1
    assert json.loads((tmp_path / "a" / "metrics.json").read_text()) == metrics
    assert evaluate(chosen(trained, tmp_path / "b", models=("test_evaluate:Levels",), workers=2)) == metrics
    # stopped half way: what is done is not done again
    (tmp_path / "b" / "same_chain_3.npz").unlink()
    kept = (tmp_path / "b" / "same_chain_1.npz").stat().st_mtime_ns
    assert evaluate(chosen(trained, tmp_path / "b", models=("test_evaluate:Levels",))) == metrics
    assert (tmp_path / "b" / "same_chain_1.npz").stat().st_mtime_ns == kept
    monkeypatch.setattr(module, "apply_remix", None)
    assert evaluate(first) == metrics
    with pytest.raises(MixstyleError, match=r"styles: 10 -> 11.*--rebuild"):
        evaluate(chosen(trained, tmp_path / "a", models=("test_evaluate:Levels",), styles=11))


def test_what_cannot_be_evaluated_is_told_in_a_line(trained: Settings, tmp_path: Path) -> None:
    with pytest.raises(MixstyleError, match=r"none\.pt: no such checkpoint"):
        evaluate(chosen(trained, tmp_path, checkpoints=(tmp_path / "none.pt",)))
    best = [trained.train.checkpoint_dir / "best_model.pt"]
    for reference, why in (("nomodule:x", "nomodule"), ("x", "package.module:name"), ("json:loads", "no `name`")):
        with pytest.raises(MixstyleError, match=why):
            rows_of(best, (reference,), torch.device("cpu"))
    make_cache(tmp_path / "stems", tracks=4, clips=2, clip_s=CLIP_S, validation=1, per_shard=4)
    with pytest.raises(MixstyleError, match="1 songs that nothing was trained on"):
        held_out(StemCache(tmp_path / "stems"))


def test_songs_that_an_encoder_was_trained_on_are_left_out(trained: Settings) -> None:
    cache = StemCache(trained.separate.stems_dir)
    best = trained.train.checkpoint_dir / "best_model.pt"
    rows = rows_of([best], (), torch.device("cpu"))
    assert {track.track_id for track in held_out(cache, rows)} == {track.track_id for track in songs_of(trained)}
    # the same music, split in another way: what was trained on before is asked for now
    first = rows[0]
    assert isinstance(first, EncoderRow)
    turned = dataclasses.replace(first, trained_on=tuple(int(track.track_id, 16) for track in songs_of(trained)[:2]))
    assert [track.track_id for track in held_out(cache, [turned])] == [t.track_id for t in songs_of(trained)[2:]]
