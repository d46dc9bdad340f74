"""Evaluation: measures against embeddings with known answers, styles by the meter, runs that go on and are refused."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from helpers.small_cache import make_cache, stems_of
from helpers.small_separator import write_separator
from helpers.training import CLIP_S, settings_of

import mixstyle.stages.evaluate.stage as module
from mixstyle.cache.stem_store.stem_cache import StemCache
from mixstyle.pipeline.core.errors import MixstyleError
from mixstyle.pipeline.core.stems import SAMPLE_RATE, STEMS
from mixstyle.pipeline.mixing.chains import STEM_LUFS, draw_chain
from mixstyle.pipeline.mixing.effects import EFFECTS
from mixstyle.pipeline.mixing.mix_chain import apply_mix_chain
from mixstyle.pipeline.mixing.presets import PRESETS
from mixstyle.pipeline.retrieval import bootstrap_groups
from mixstyle.stages.evaluate.metrics import (
    fingerprint_of,
    hard_of,
    leakage_of,
    parameters_of,
    presets_of,
    retrieval_of,
    robustness_of,
)
from mixstyle.stages.evaluate.models import EncoderRow, StemFX, rows_of
from mixstyle.stages.evaluate.stage import evaluate, held_out, some_of
from mixstyle.stages.evaluate.tasks import (
    CHANGES,
    ROBUSTNESS,
    Part,
    content_hard,
    fingerprint,
    parameters,
    presets,
    same_chain,
)
from mixstyle.stages.features.stage import features
from mixstyle.stages.settings.evaluate import EVALUATION_PARTS
from mixstyle.stages.settings.profile import Settings
from mixstyle.stages.train.stage import train


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
    options = {
        "parts": ("same-chain", "content-hard"),
        "styles": 10,
        "effects": (1, 3),
        "hard_styles": 3,
        "parameter_clips": 10,
        "workers": 0,
        "device": "cpu",
        **changes,
    }
    return dataclasses.replace(
        settings, evaluate=dataclasses.replace(settings.evaluate, evaluate_dir=folder, **options)
    )


def songs_of(settings: Settings) -> list:
    return held_out(StemCache(settings.separate.stems_dir))


@pytest.mark.parametrize("effects", [1, 4, 12])
def test_a_style_is_the_same_effects_in_the_same_order_on_every_stem(effects: int) -> None:
    style = draw_chain(np.random.default_rng(3), effects)
    assert style == draw_chain(np.random.default_rng(3), effects)
    names = {tuple(effect.name for effect in chain) for chain in style.stems}
    assert len(names) == 1
    assert len(set(names.pop())) == effects
    assert len({tuple(chain[0].parameters.values()) for chain in style.stems}) == 4, "each with its own parameters"
    with pytest.raises(ValueError, match="1 to 12 effects"):
        draw_chain(np.random.default_rng(0), len(EFFECTS) + 1)


def test_styles_set_the_loudness_of_stems_and_mix() -> None:
    meter = pyloudnorm.Meter(SAMPLE_RATE)
    stems = stems_of(3, 3.0)
    stems[1] = 0
    # a chain that does nothing shows what else is done
    drawn = draw_chain(np.random.default_rng(1), 1)
    nothing = dataclasses.replace(drawn, stems=((), (), (), ()))
    out = apply_mix_chain(stems, nothing)
    assert meter.integrated_loudness(out.sum(0).T.astype(np.float64)) == pytest.approx(-14, abs=0.05)  # LUFS
    assert not out[1].any(), "a silent stem stays silent"
    found = [meter.integrated_loudness(out[i].T.astype(np.float64)) for i in (0, 2, 3)]
    wanted = [nothing.stem_lufs[i] for i in (0, 2, 3)]
    np.testing.assert_allclose(np.diff(found), np.diff(wanted), atol=0.05)  # LU: one gain is common to all
    assert all(STEM_LUFS[0] <= lufs <= STEM_LUFS[1] for lufs in nothing.stem_lufs)


def test_measures_of_embeddings_with_known_answers(trained: Settings) -> None:
    part = same_chain(songs_of(trained), 2, 40, 0)
    assert len(part) == len(part.items) == 80
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
    monkeypatch.setattr(module, "apply_mix_chain", None)
    assert evaluate(first) == metrics
    # the same questions of another encoder in its place are answered anew
    shutil.copytree(first.train.checkpoint_dir, tmp_path / "ckpt")
    moved = dataclasses.replace(first, train=dataclasses.replace(first.train, checkpoint_dir=tmp_path / "ckpt"))
    content = torch.load(tmp_path / "ckpt" / "best_model.pt", weights_only=True)
    content["encoder"]["projection.weight"] *= -torch.randn(content["encoder"]["projection.weight"].shape).sign()
    torch.save(content, tmp_path / "ckpt" / "best_model.pt")
    with monkeypatch.context() as patch:
        patch.setattr(module, "apply_mix_chain", apply_mix_chain)
        assert evaluate(moved)["same_chain"] != metrics["same_chain"]
    assert "measured anew" in capsys.readouterr().out
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


def test_presets_are_told_apart_by_what_they_do(trained: Settings) -> None:
    part = presets(songs_of(trained), 2, 0)
    clips = len(part) // len(PRESETS)
    label = np.repeat(np.arange(len(PRESETS)), clips)
    assert [remix for _, remix in part.items] == [list(PRESETS.values())[k] for k in label]
    right = presets_of(np.eye(5, dtype=np.float32)[label], part, "x")
    assert right["nearest_accuracy"] == right["probe_accuracy"] == right["nearest_f1"] == 1
    np.testing.assert_array_equal(right["confusion"], np.eye(5))
    songs = np.eye(10, dtype=np.float32)[list(part.songs)]
    blind = presets_of(songs, part, "x")
    assert blind["nearest_accuracy"] < 0.5, "what tells the song alone cannot tell the preset"


def test_parameters_are_told_from_what_holds_them(trained: Settings) -> None:
    part = parameters(songs_of(trained), 40, 0)
    rng = np.random.default_rng(0)
    known = np.zeros((len(part), 12), np.float32)
    for row, (_, remix) in enumerate(part.items):
        (effect,) = remix.mix
        values = [EFFECTS[effect.name].parameters[key].normalised(v) for key, v in effect.parameters.items()]
        known[row, : len(values)] = values
    known[:, -1] = 10  # unit length keeps the rest linear, nearly
    found = parameters_of(known, part, "x")
    assert set(found) == {f"{name}.{key}" for name, spec in EFFECTS.items() for key in spec.parameters}
    assert min(entry["r2"] for entry in found.values()) > 0.95
    assert min(entry["spearman"] for entry in found.values()) > 0.95
    noise = parameters_of(rng.standard_normal(known.shape).astype(np.float32), part, "x")
    # out of fold, the mean of the others leans away from what is left out: below 0, not around it
    assert np.mean([entry["spearman"] for entry in noise.values()]) < 0.15
    assert np.mean([entry["r2"] for entry in noise.values()]) < 0.05


def test_leakage_is_what_a_probe_knows_of_the_song(trained: Settings) -> None:
    part = content_hard(songs_of(trained), 6, 3, 0)
    songs = len(songs_of(trained))
    by_song = np.eye(10, dtype=np.float32)[list(part.songs)]
    by_style = np.repeat(np.eye(6, dtype=np.float32), songs, axis=0)
    assert leakage_of(by_song, part, 6, "x")["accuracy"] == 1
    assert leakage_of(by_style, part, 6, "x")["accuracy"] <= leakage_of(by_style, part, 6, "x")["chance"] + 0.1


def test_robustness_compares_with_another_style() -> None:
    songs = 5
    part = Part("robustness", tuple(range(songs)) * len(ROBUSTNESS), tuple)
    one = np.repeat(np.eye(2, 8, dtype=np.float32)[:1], songs * (len(ROBUSTNESS) - 1), axis=0)
    other = np.repeat(np.eye(2, 8, dtype=np.float32)[1:], songs, axis=0)
    found = robustness_of(np.concatenate([one, other]), part, "x")
    assert found["polarity"]["cosine"] == found["polarity"]["nearer_than_style"] == 1
    assert found["another style"]["cosine"] == 0


@pytest.mark.parametrize("name", CHANGES)
def test_changes_leave_what_they_should(name: str) -> None:
    mix = stems_of(2, 3.0).sum(0)
    out = CHANGES[name](mix)
    assert out.shape == mix.shape
    assert out.dtype == np.float32
    gain = {"+6 dB": 10 ** (6 / 20), "-6 dB": 10 ** (-6 / 20), "polarity": -1.0}.get(name, 1.0)
    middle = slice(4000, -4000)
    error = np.mean((out - gain * mix)[:, middle] ** 2) / np.mean((gain * mix)[:, middle] ** 2)
    error_db = 10 * np.log10(max(error, 1e-20))
    # noise is what codecs are worst at: they leave its highs out; what is aligned wrongly would be above 0 dB
    assert error_db < {"MP3 at 128 kbit/s": -3, "MP3 at 320 kbit/s": -8, "48 kHz and back": -15}.get(name, -100)


def test_the_fingerprint_asks_true_and_separated_stems_alike(tmp_path: Path) -> None:
    for song in range(3):
        folder = tmp_path / "stems" / f"song {song}"
        folder.mkdir(parents=True)
        for stem, audio in zip(STEMS, stems_of(song, 2.0), strict=True):
            soundfile.write(folder / f"{stem}.wav", audio.T, SAMPLE_RATE, subtype="FLOAT")
    seen: list[np.ndarray] = []

    def separate(mix: np.ndarray) -> np.ndarray:
        seen.append(mix)
        return np.stack([mix / 4] * 4)

    part = fingerprint(tmp_path, lambda: separate, 1.0, 2, 12, 0)
    assert not seen, "nothing is separated before it is needed"
    assert len(part) == 48
    items = part.items
    assert len(seen) == 3
    for place in range(12):
        (query, style), (pool, same) = items[place], items[12 + place]
        (own, third), (_, fourth) = items[24 + place], items[36 + place]
        assert style == same == third == fourth
        assert part.songs[place] == part.songs[24 + place] != part.songs[12 + place]
        assert isinstance(query, np.ndarray)
        assert isinstance(own, np.ndarray)
        assert isinstance(pool, np.ndarray)
        np.testing.assert_allclose(own.sum(0), query.sum(0), atol=1e-5)
        assert not np.array_equal(query, pool)
    x = np.tile(np.eye(12, dtype=np.float32), (4, 1))
    found = fingerprint_of(x, part, "x")
    assert found["true"]["r1"] == found["true_to_separated"]["r1"] == found["same_mix_cosine"] == 1
    with pytest.raises(MixstyleError, match="has no folder stems"):
        fingerprint(tmp_path / "stems", lambda: separate, 1.0, 2, 12, 0)


def test_every_question_is_answered_on_one_page(
    trained: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, checkpoint = write_separator(tmp_path / "separator")
    separate = dataclasses.replace(
        trained.separate, separator_config=config, separator_checkpoint=checkpoint, input="mixtures"
    )
    asked = chosen(dataclasses.replace(trained, separate=separate), tmp_path / "out", parts=EVALUATION_PARTS[:-1])
    metrics = evaluate(asked)
    names = ["best_model", "untrained", "raw descriptors", "MFCC statistics"]
    for part in ("content_hard", "leakage", "presets", "parameters", "song_retrieval", "robustness"):
        assert list(metrics[part]) == names
    page = (tmp_path / "out" / "evaluation.html").read_text()
    assert page.count("<img") == 5
    for title in ("Same chain", "Content", "Zero-shot style", "Parameters", "Robustness", "Song retrieval"):
        assert f"<h2>{title}" in page
    for figure in ("same_chain", "map", "confusion", "parameters", "robustness"):
        assert (tmp_path / "out" / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    # what was left out may be asked later, of the same folder
    few = dataclasses.replace(asked, evaluate=dataclasses.replace(asked.evaluate, parts=("songs",)))
    assert list(evaluate(few)["song_retrieval"]) == names
    given = dataclasses.replace(asked, separate=dataclasses.replace(separate, input="stems"))
    told = capsys.readouterr().out
    assert "other questions" in told
    assert "robustness" not in evaluate(given)
    assert "robustness is left out: it needs a separator" in capsys.readouterr().out


def test_at_most_so_many_songs_are_drawn(trained: Settings) -> None:
    songs = songs_of(trained)
    some = some_of(songs, 2, 3)
    assert len(some) == 2
    assert [track for track in songs if track in some] == some
    assert some_of(songs, 99, 3) == songs


def test_stemfx_without_its_weights_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "stemfx", None)
    with pytest.raises(MixstyleError, match="StemFX cannot be imported"):
        StemFX()
